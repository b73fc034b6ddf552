import { Connection, readable, type Link, type Stream, type StreamStatus } from './connection.js';
import { LiverankError, answerError, asLiverankError } from './error.js';
import { Http, query, type PostOptions, type TokenSource } from './http.js';
import { CommentPosition } from './position.js';
import { applyRankingMessage, type RankingState } from './ranking.js';
import { createSseParser, type SseEvent } from './sse.js';
import type {
  Acknowledged,
  BanAnswer,
  BanPage,
  BanRequest,
  Board,
  Boards,
  Comment,
  CommentPage,
  CommentReport,
  CommentRulesAnswer,
  CommentRulesPage,
  CommentRulesRequest,
  Connected,
  Deleted,
  Draft,
  Gap,
  HeldPage,
  Interaction,
  ModerationPage,
  NumberedComment,
  OwnRanked,
  PinAnswer,
  Pinned,
  PostedComment,
  RankedVideo,
  RankingMessage,
  RankingPart,
  ReportDecision,
  ReportPage,
  Review,
  RulesPlace,
  Statistics,
  Video,
  VideoPage,
} from './types.js';

/** A stream on which nothing arrives for this long is dead, in ms: readers send a line every 15 s. */
const SILENCE_MS = 60_000;

/** What is needed of a WebSocket: the browser's own, or the package `ws`. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  close(): void;
}

/** How a WebSocket is made. */
export type WebSocketConstructor = new (url: string) => WebSocketLike;

/** How a {@link Liverank} is set up. */
export interface LiverankOptions {
  /** The front door (the gateway). The page's own origin by default; needed outside a browser. */
  baseUrl?: string | URL | undefined;
  /** For systems that ask viewers for tokens. A function is asked again when its token is refused. */
  token?: TokenSource | undefined;
  /** Instead of the platform's own. */
  fetch?: typeof fetch | undefined;
  /** Instead of the platform's own. */
  WebSocket?: WebSocketConstructor | undefined;
  /** Where chance comes from; for tests. */
  random?: (() => number) | undefined;
}

/** Options of reads. */
export interface ReadOptions {
  signal?: AbortSignal;
}

/** Options of {@link Liverank.deleteComment}. */
export interface ModerationOptions extends ReadOptions {
  /** Why, for the audit log. */
  reason?: string | undefined;
}

/** Options of {@link Liverank.reports}. */
export interface ReportOptions extends ReadOptions {
  /** Those that wait for a decision (the default), or those that were decided on. */
  state?: 'open' | 'closed' | undefined;
  /** First the one that was reported or decided on last (the default), or the one with most reports. */
  order?: 'newest' | 'most' | undefined;
  after?: string | null | undefined;
  limit?: number | undefined;
}

/** Options of {@link Liverank.history}. */
export interface HistoryOptions extends ReadOptions {
  /** Comments numbered less than this: the `next` of a page. */
  before?: number | null | undefined;
  /** Comments numbered more than this, those next to it: the `newer` of a page. */
  after?: number | null | undefined;
  /** A comment's id: the page has it in its middle. */
  around?: string | undefined;
  /** Who asks, where the system asks for no tokens: what is shown to its author alone is shown to this user. */
  userid?: string | undefined;
  limit?: number | undefined;
}

/** Options of {@link Liverank.videos}. */
export interface PageOptions extends ReadOptions {
  board?: Board | undefined;
  limit?: number | undefined;
  /** The `next` of the page before. */
  cursor?: string | null | undefined;
  /** Of a board with windows, the one of this name; the one that runs by default. */
  window?: string | undefined;
  /** What else each line is to have. */
  fields?: ('viewers' | 'metadata')[] | undefined;
  /** A video that the page has in its middle; not together with `cursor`. */
  around?: string | undefined;
}

/** Options of {@link Liverank.comments}. */
export interface CommentOptions {
  /** Who watches. */
  userid: string;
  /** Where to resume: the `lastEventId` of an earlier stream. */
  lastEventId?: string;
  /** Connects to the video's reader instead of the front door, and resolves it again after every end. */
  direct?: boolean;
  onConnected?: (greeting: Connected) => void;
  onComment?: (comment: NumberedComment) => void;
  /** A comment was removed, which this viewer may have been shown. */
  onDeleted?: (deleted: Deleted) => void;
  /** Another comment is pinned from now on, or none. Which one is at first, `video` and `history` say. */
  onPinned?: (pinned: Pinned) => void;
  /** Comments that can no longer be had here; the history may have them. */
  onGap?: (gap: Gap) => void;
  /** How many viewers the video has now: soon after connecting, and then where that has changed, at most once a second. */
  onViewers?: (viewers: number) => void;
  onState?: (status: StreamStatus) => void;
}

/** A video's comments as they come. */
export interface CommentStream extends Stream {
  /** Where this viewer stands: hand it to {@link Liverank.comments} to resume. Empty before the first event. */
  readonly lastEventId: string;
}

/** Options of {@link Liverank.userRanking}. */
export interface ListOptions<Line> {
  /** How many videos at most; 1,000 by default. */
  limit?: number | 'all' | undefined;
  /** Called on connect and on every change, best first. */
  onList?: (videos: Line[]) => void;
  onState?: (status: StreamStatus) => void;
}

/** Options of {@link Liverank.ranking}. */
export interface RankingOptions extends ListOptions<RankedVideo> {
  board?: Board | undefined;
  /** What else each line is to have; with `metadata`, `limit` is 1,000 at most. */
  fields?: 'metadata'[] | undefined;
  /** `delta`: changes travel; `list`: whole lists do. */
  mode?: 'delta' | 'list';
}

/** Options of {@link Liverank.rankingAround}. */
export interface AroundOptions {
  board?: Board | undefined;
  /** How many videos at most, up to 100; 11 by default. */
  limit?: number | undefined;
  /** What else each line is to have. */
  fields?: 'metadata'[] | undefined;
  /** Called on connect and on every change, at most twice a second. */
  onPart?: (part: RankingPart) => void;
  onState?: (status: StreamStatus) => void;
}

/** A random id for an event or a comment. `crypto.randomUUID` is missing on pages served over plain HTTP. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * A client of one liverank system.
 *
 * A post is repeated under the same id until it is acknowledged, refused or out of time, so it counts once. A comment
 * stream resumes where it stopped and hands over each comment once and in order; what can no longer be had is reported as
 * a gap. Each reconnect waits a random, bounded time. An answer that is final ends a stream (`failed`) and rejects a call.
 */
export class Liverank {
  readonly #http: Http;
  readonly #fetch: typeof fetch;
  readonly #WebSocket: WebSocketConstructor | undefined;
  readonly #random: () => number;

  constructor({ baseUrl = globalThis.location?.origin, token, fetch: given, WebSocket, random = Math.random }: LiverankOptions = {}) {
    if (!baseUrl || baseUrl === 'null') throw new TypeError('baseUrl is needed outside a browser');
    this.#fetch = given ?? ((...request) => globalThis.fetch(...request));
    this.#http = new Http(String(baseUrl).replace(/\/+$/, ''), this.#fetch, random, token);
    this.#WebSocket = WebSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined);
    this.#random = random;
  }

  /** Has the next request and connection ask the token function again: after a sign-in or a sign-out. */
  forgetToken(): void {
    this.#http.forgetToken();
  }

  /** Sends one interaction. Resolves once it is durable. It is repeated under one `event_id`, so it counts once. */
  interact(event: Interaction, options?: PostOptions): Promise<Acknowledged> {
    return this.#http.post<Acknowledged>('/interact', { event_id: newId(), ...event }, options);
  }

  /**
   * Posts a comment. Resolves to the stored one, with `held` where nobody sees it before a moderator releases it. It is repeated
   * under the same idempotency key.
   */
  async postComment({ userid, videoid, comment, replyTo, idempotencyKey = newId() }: Draft, options?: PostOptions): Promise<PostedComment> {
    const body = { userid, videoid, comment, reply_to: replyTo, idempotency_key: idempotencyKey };
    const answer = await this.#http.post<{ comment: Comment; held?: true }>('/comment', body, options);
    return answer.held ? { ...answer.comment, held: true } : answer.comment;
  }

  /**
   * A page of a video's comments, newest first. Pass `next` as `before` for older ones, and `newer` as `after` for newer ones.
   */
  history(videoid: string, { before, after, around, userid, limit, signal }: HistoryOptions = {}): Promise<CommentPage> {
    const path = `/comments/${encodeURIComponent(videoid)}${query({ before, after, around, userid, limit })}`;
    return this.#http.json<CommentPage>(path, { signal });
  }

  /** The boards, those that were declared among them, and the windows of those that have some. */
  boards({ signal }: ReadOptions = {}): Promise<Boards> {
    return this.#http.json<Boards>('/boards', { signal });
  }

  /** One page of a ranked list. */
  videos({ board, window, limit, cursor, around, fields, signal }: PageOptions = {}): Promise<VideoPage> {
    const path = `/videos${query({ board, window, limit, cursor, around, fields: fields?.join() })}`;
    return this.#http.json<VideoPage>(path, { signal });
  }

  /** One video with its counters, its viewers now and its ranks. Rejects with status 404 when nothing has happened to it yet. */
  video(videoId: string, { signal }: ReadOptions = {}): Promise<Video> {
    return this.#http.json<Video>(`/videos/${encodeURIComponent(videoId)}`, { signal });
  }

  /** What every service reports. */
  statistics({ signal }: ReadOptions = {}): Promise<Statistics> {
    return this.#http.json<Statistics>('/statistics', { signal });
  }

  /** A video's comments as they come. */
  comments(videoid: string, { userid, lastEventId = '', direct = false, onState, ...handlers }: CommentOptions): CommentStream {
    const position = new CommentPosition(lastEventId);
    const take = (link: Link, event: SseEvent): void => {
      // The token is good no more. The stream ends with this, and the next one asks for another.
      if (event.type === UNAUTHORIZED_EVENT) this.#http.forgetToken();
      for (const outcome of readable(link, () => position.take(event)) ?? []) {
        if ('connected' in outcome) {
          link.live();
          handlers.onConnected?.(outcome.connected);
        } else if ('gap' in outcome) handlers.onGap?.(outcome.gap);
        else if ('deleted' in outcome) handlers.onDeleted?.(outcome.deleted);
        else if ('pinned' in outcome) handlers.onPinned?.(outcome.pinned);
        else if ('viewers' in outcome) handlers.onViewers?.(outcome.viewers);
        else handlers.onComment?.(outcome.comment);
      }
    };
    // The server sends no more than is asked for.
    const wanted = [handlers.onViewers && 'viewers', handlers.onDeleted && 'deleted', handlers.onPinned && 'pinned'];
    const events = wanted.filter(Boolean).join(',') || undefined;
    const path = (): string => `/connect${query({ userid, videoid, events, last_event_id: position.lastEventId })}`;
    const ask = async (init: RequestInit): Promise<Response> => {
      if (!direct) return this.#http.send(path(), init);
      // The token is for the front door: it is not shown to whatever address a reader is said to have.
      const response = await this.#fetch((await this.#reader(videoid, init.signal ?? undefined)) + path(), init);
      if (!response.ok) throw await answerError(response);
      return response;
    };
    const connection = new Connection({ open: (link) => openStream(link, ask, take), onState, random: this.#random });
    return Object.defineProperty(connection, 'lastEventId', { get: () => position.lastEventId }) as Connection & CommentStream;
  }

  /** Removes a comment: one's own, or as a moderator anybody's. Resolves once the log has it. */
  async deleteComment(videoid: string, id: string, { reason, signal }: ModerationOptions = {}): Promise<void> {
    const path = `/comments/${encodeURIComponent(videoid)}/${encodeURIComponent(id)}${query({ reason })}`;
    await this.#http.json(path, { method: 'DELETE', signal });
  }

  /** Says that something is wrong with a comment. It counts once for a user. Resolves once the log has it. */
  async reportComment(videoid: string, id: string, report: CommentReport, { signal }: ReadOptions = {}): Promise<void> {
    const path = `/comments/${encodeURIComponent(videoid)}/${encodeURIComponent(id)}/reports`;
    await this.#http.json(path, { method: 'POST', body: report, signal });
  }

  /** The comments that were reported, as a moderator. Pass `next` as `after` for the page that follows. */
  reports({ state, order, after, limit, signal }: ReportOptions = {}): Promise<ReportPage> {
    return this.#http.json<ReportPage>(`/moderation/reports${query({ state, order, after, limit })}`, { signal });
  }

  /** Decides on a comment that was reported, as a moderator. Resolves once the log has it. */
  async decideReports(decision: ReportDecision, { signal }: ReadOptions = {}): Promise<void> {
    await this.#http.json('/moderation/reports', { method: 'POST', body: decision, signal });
  }

  /** Bans or mutes a user, as a moderator. Resolves once the log has it; it is in force within a second. */
  ban(whom: BanRequest, { signal }: ReadOptions = {}): Promise<BanAnswer> {
    return this.#http.json<BanAnswer>('/moderation/bans', { method: 'POST', body: whom, signal });
  }

  /** Ends a ban or a mute of this kind and in this place, as a moderator. */
  liftBan({ userid, kind, videoid, owner_id, reason }: BanRequest, { signal }: ReadOptions = {}): Promise<BanAnswer> {
    const path = `/moderation/bans${query({ userid, kind, videoid, owner_id, reason })}`;
    return this.#http.json<BanAnswer>(path, { method: 'DELETE', signal });
  }

  /** The bans and mutes in force, as a moderator. Pass `next` as `after` for the page that follows. */
  bans({ after, limit, signal }: { after?: number | null | undefined; limit?: number | undefined } & ReadOptions = {}): Promise<BanPage> {
    return this.#http.json<BanPage>(`/moderation/bans${query({ after, limit })}`, { signal });
  }

  /** The comments that wait for a moderator, oldest first. Pass `next` as `after` for the page that follows. */
  held({ after, limit, signal }: { after?: string | null | undefined; limit?: number | undefined } & ReadOptions = {}): Promise<HeldPage> {
    return this.#http.json<HeldPage>(`/moderation/held${query({ after, limit })}`, { signal });
  }

  /** Releases a comment that waits, or rejects it, as a moderator. Resolves once the log has it. */
  async reviewHeld(review: Review, { signal }: ReadOptions = {}): Promise<void> {
    await this.#http.json('/moderation/held', { method: 'POST', body: review, signal });
  }

  /** Pins a comment of a video in the place of the one that was, as a moderator. Resolves once the log has it. */
  pinComment(videoid: string, id: string, { reason, signal }: ModerationOptions = {}): Promise<PinAnswer> {
    return this.#http.json<PinAnswer>('/moderation/pins', { method: 'POST', body: { videoid, id, reason }, signal });
  }

  /** Pins no comment of a video any more, as a moderator. */
  unpinComment(videoid: string, { reason, signal }: ModerationOptions = {}): Promise<PinAnswer> {
    return this.#http.json<PinAnswer>(`/moderation/pins${query({ videoid, reason })}`, { method: 'DELETE', signal });
  }

  /** The rules of comments in force, as a moderator. Pass `next` as `after` for the page that follows. */
  commentRules({ after, limit, signal }: { after?: number | null | undefined; limit?: number | undefined } & ReadOptions = {}): Promise<CommentRulesPage> {
    return this.#http.json<CommentRulesPage>(`/moderation/rules${query({ after, limit })}`, { signal });
  }

  /** Says what comments must be like in a place, in the place of what was said before. In force within a second. */
  setCommentRules(rules: CommentRulesRequest, { signal }: ReadOptions = {}): Promise<CommentRulesAnswer> {
    return this.#http.json<CommentRulesAnswer>('/moderation/rules', { method: 'POST', body: rules, signal });
  }

  /** Takes the rules of a place away. */
  removeCommentRules({ videoid, owner_id, reason }: RulesPlace, { signal }: ReadOptions = {}): Promise<CommentRulesAnswer> {
    return this.#http.json<CommentRulesAnswer>(`/moderation/rules${query({ videoid, owner_id, reason })}`, { method: 'DELETE', signal });
  }

  /** What was done, newest first, as a moderator. Pass `next` as `before` for the page that follows. */
  moderationLog({ before, limit, signal }: { before?: string | null | undefined; limit?: number | undefined } & ReadOptions = {}): Promise<ModerationPage> {
    return this.#http.json<ModerationPage>(`/moderation/log${query({ before, limit })}`, { signal });
  }

  /** A ranked list, best first. */
  ranking({ board, limit, fields, mode = 'delta', onList, onState }: RankingOptions = {}): Stream {
    const asked = { board, limit, mode: mode === 'delta' ? mode : undefined, fields: fields?.join() };
    return this.#list<RankedVideo>(`/ws/videos${query(asked)}`, { onList, onState });
  }

  /** The part of a ranked list that has a video in its middle, wherever the video stands. */
  rankingAround(videoId: string, { board, limit, fields, onPart, onState }: AroundOptions = {}): Stream {
    const asked = { board, limit, around: videoId, fields: fields?.join() };
    return this.#list<RankedVideo>(`/ws/videos${query(asked)}`, { onPart, onState });
  }

  /** The ranked videos of one owner, as {@link Liverank.ranking} does it. */
  userRanking(userId: string, { limit, onList, onState }: ListOptions<OwnRanked> = {}): Stream {
    return this.#list<OwnRanked>(`/ws/user/${encodeURIComponent(userId)}${query({ limit })}`, { onList, onState });
  }

  /** The reader that serves a video; one that nobody serves yet is registered. */
  async #reader(videoid: string, signal: AbortSignal | undefined): Promise<string> {
    type Found = { readerUrl: string };
    const found = await this.#http.json<Found>(`/resolve/${encodeURIComponent(videoid)}`, { signal }).catch((error: LiverankError) => {
      if (error.status !== 404) throw error;
      return this.#http.json<Found>('/register', { method: 'POST', body: { videoid }, signal });
    });
    return found.readerUrl.replace(/\/+$/, '');
  }

  #list<Line>(path: string, { onList, onPart, onState }: ListHandlers<Line>): Stream {
    const WebSocket = this.#WebSocket;
    if (!WebSocket) throw new TypeError('this platform has no WebSocket: pass one to the constructor');
    const open = (link: Link): (() => void) => {
      let state: RankingState | null = null;
      let socket: WebSocketLike | null = null;
      const message = ({ data }: { data: unknown }): void => {
        if (!link.current()) return;
        const read = readable(link, () => JSON.parse(String(data)) as Line[] | RankingMessage | RankingPart);
        if (read === undefined) return;
        if ('first_rank' in read) {
          link.live();
          onPart?.(read);
          return;
        }
        if (Array.isArray(read)) {
          link.live();
          onList?.(read);
          return;
        }
        const next = applyRankingMessage(state, read);
        if (next === null) link.lost(new LiverankError('the list went on without us'));
        if (next === null || next === state) return;
        state = next;
        link.live();
        onList?.(next.videos as Line[]);
      };
      const run = async (): Promise<void> => {
        const token = await this.#http.token();
        if (!link.current()) return;
        // A browser can set no headers here. Where it can be done otherwise (Node), the package's own class does it.
        socket = new WebSocket(this.#http.base.replace(/^http/, 'ws') + withToken(path, token));
        let opened = false;
        socket.onopen = () => {
          opened = true;
        };
        socket.onmessage = (event) => {
          opened = true;
          message(event);
        };
        socket.onclose = (event?: { code?: number }) => {
          if (event?.code === UNAUTHORIZED_STATUS) this.#http.forgetToken();
          void this.#closed(link, path, opened);
        };
        socket.onerror = () => {};
      };
      run().catch((cause) => link.lost(asLiverankError(cause, `GET ${path}`)));
      return () => socket && closeQuietly(socket);
    };
    return new Connection({ open, onState, random: this.#random });
  }

  /** A WebSocket that never opened does not say why: the same request without its handshake does. */
  async #closed(link: Link, path: string, opened: boolean): Promise<void> {
    if (!link.current()) return;
    if (opened) return link.lost(new LiverankError('the connection was closed'));
    try {
      // 426: it is there, it takes us, and wants the handshake.
      const answer = await this.#http.send(path, { cache: 'no-store', signal: AbortSignal.timeout(REQUEST_MS) }, 426);
      await answer.body?.cancel();
      link.lost(new LiverankError('the connection was closed'));
    } catch (cause) {
      link.lost(asLiverankError(cause, `GET ${path}`));
    }
  }
}

/** The last event of a comment stream, and the status that a WebSocket is closed with, where the token is good no more. */
const UNAUTHORIZED_EVENT = 'unauthorized';
const UNAUTHORIZED_STATUS = 4401;
/** Who hears of a list. */
interface ListHandlers<Line> {
  onList?: ((videos: Line[]) => void) | undefined;
  onPart?: ((part: RankingPart) => void) | undefined;
  onState?: ((status: StreamStatus) => void) | undefined;
}

/** For the question why a WebSocket did not open, in ms. */
const REQUEST_MS = 10_000;

function withToken(path: string, token: string | null): string {
  if (!token) return path;
  return `${path}${path.includes('?') ? '&' : '?'}${new URLSearchParams({ access_token: token })}`;
}

function closeQuietly(socket: WebSocketLike): void {
  // Closing one that is not open yet makes a browser complain in its console, as if something had failed.
  if (socket.readyState === 0) socket.onopen = () => socket.close();
  else socket.close();
}

/** Whoever takes streams alone, as `EventSource`, is answered with a stream that ends at once where it is refused for now. */
const STREAM_OR_PROBLEM = 'text/event-stream, application/problem+json';

/** A stream of events over `fetch`, which shows statuses and takes headers. The browser's `EventSource` does neither. */
function openStream(link: Link, ask: (init: RequestInit) => Promise<Response>, take: (link: Link, event: SseEvent) => void): () => void {
  const abort = new AbortController();
  let silence: ReturnType<typeof setTimeout> | undefined;
  const heard = (): void => {
    clearTimeout(silence);
    silence = setTimeout(() => link.lost(new LiverankError('the stream fell silent')), SILENCE_MS);
  };
  const run = async (): Promise<void> => {
    const response = await ask({ signal: abort.signal, headers: { accept: STREAM_OR_PROBLEM }, cache: 'no-store' });
    if (!response.body) throw new LiverankError('the stream has no body');
    const parser = createSseParser({ onRetry: link.retry, onEvent: (event) => link.current() && take(link, event) });
    const text = new TextDecoder();
    const reader = response.body.getReader();
    heard();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      heard();
      parser.feed(text.decode(part.value, { stream: true }));
    }
  };
  run().then(
    () => link.lost(),
    (cause) => link.lost(asLiverankError(cause, 'the stream ended')),
  );
  return () => {
    clearTimeout(silence);
    abort.abort();
  };
}
