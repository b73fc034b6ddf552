export { Liverank, newId } from './client.js';
export type {
  AroundOptions,
  CommentOptions,
  CommentStream,
  HistoryOptions,
  LiverankOptions,
  ListOptions,
  ModerationOptions,
  PageOptions,
  RankingOptions,
  ReadOptions,
  ReportOptions,
  WebSocketConstructor,
  WebSocketLike,
} from './client.js';
export type { Stream, StreamState, StreamStatus } from './connection.js';
export { LiverankError, backoffDelay, retryAfterMs } from './error.js';
export type { BackoffOptions, LiverankErrorDetails, Problem } from './error.js';
export type { PostOptions, TokenSource } from './http.js';
export { CommentPosition } from './position.js';
export type { CommentOutcome } from './position.js';
export { applyRankingMessage, compareRanked, compareUtf8 } from './ranking.js';
export type { RankingState } from './ranking.js';
export { createSseParser } from './sse.js';
export type { SseEvent, SseHandlers } from './sse.js';
export type * from './types.js';
