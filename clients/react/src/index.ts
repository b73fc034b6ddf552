/** React hooks for liverank. */

export { LiverankProvider, useLiverank } from './context.js';
export type { LiverankProviderProps } from './context.js';
export { useComments } from './comments.js';
export type { Comments, UseCommentsOptions } from './comments.js';
export { useInteract, usePostComment } from './posts.js';
export type { Interact, Post, PostComment } from './posts.js';
export { useRanking } from './ranking.js';
export type { RankedList, UseRankingOptions } from './ranking.js';
