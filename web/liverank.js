/**
 * liverank.js: the reference client of liverank, for browsers and for Node 20 or later. Two ES modules (this one and
 * `liverank-protocol.js`), no dependencies, no build.
 *
 *   import { Liverank } from './liverank.js';
 *   const liverank = new Liverank({ baseUrl: 'http://localhost:8080' });
 *   await liverank.interact({ video_id: 'cat', user_id: 'ana', type: 'like' });
 *   const list = liverank.ranking({ limit: 10, onList: (videos) => console.log(videos) });
 *   const chat = liverank.comments('cat', { userid: 'ana', onComment: (c) => console.log(c.comment) });
 *   await liverank.postComment({ userid: 'ana', videoid: 'cat', comment: 'hello' });
 *   chat.close(); list.close();
 *
 * What it promises: a post is repeated under the same id until it is acknowledged, refused or out of time, so it counts
 * once; a comment stream resumes where it stopped and hands over each comment once and in order; what can no longer be had
 * is reported as a gap, never skipped in silence; every reconnect waits a random, bounded time, so that a thousand clients
 * of a server that went away do not come back in step.
 */

import {
  CommentPosition,
  LONGEST_REQUESTED_PAUSE_MS,
  LiverankError,
  applyRankingMessage,
  backoffDelay,
  createSseParser,
  retryAfterMs,
} from './liverank-protocol.js';

export * from './liverank-protocol.js';

/** One attempt of a request or of opening a stream, in ms: longer than the server's own limit, so that its answer is seen. */
const REQUEST_TIMEOUT_MS = 15_000;
/** How long a post is repeated before the caller is told, in ms. */
const POST_TIMEOUT_MS = 60_000;

/** A random id for an event or a comment. `crypto.randomUUID` is missing on pages served over plain HTTP. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// -------------------------------------------------------------------------------------------------- reconnecting

/**
 * Keeps one connection open. `open(link)` starts an attempt and returns a function that ends it; the attempt tells `link`
 * how it fares. States, as `onState` sees them: `connecting`, `live`, `waiting` (with `retryAt` in ms since the epoch, or
 * null when the browser itself decides), `closed`.
 */
class Reconnecting {
  state = 'connecting';
  #open;
  #onState;
  #random;
  #end = () => {};
  #timer = null;
  #attempt = 0;
  #link = null;
  #retryMs = 0;

  constructor({ open, onState = () => {}, random }) {
    this.#open = open;
    this.#onState = onState;
    this.#random = random;
    // Not at once: the caller's handlers may use what this constructor returns.
    queueMicrotask(() => this.state !== 'closed' && this.#try());
  }

  /** Tries again at once instead of waiting. Does nothing while connected or connecting. */
  retryNow() {
    if (this.state === 'waiting') this.#try();
  }

  /** Ends it for good. */
  close() {
    this.#drop();
    this.#say('closed');
  }

  #try() {
    this.#drop();
    const current = () => this.#link === link;
    const link = {
      live: () => {
        if (!current() || this.state === 'live') return;
        clearTimeout(this.#timer);
        this.#attempt = 0;
        this.#say('live');
      },
      /** The attempt is over; the next one follows after a pause of at least `pauseMs`. */
      lost: (error = null, pauseMs = 0) => current() && this.#wait(error, pauseMs),
      /** The connection is away and comes back without us. */
      away: () => {
        if (!current()) return;
        clearTimeout(this.#timer);
        this.#say('waiting');
      },
      /** What the stream's `retry:` asks for, in ms. */
      retry: (ms) => {
        this.#retryMs = Math.min(ms, LONGEST_REQUESTED_PAUSE_MS);
      },
      current,
    };
    this.#link = link;
    this.#timer = setTimeout(() => link.lost(new LiverankError('no answer in time')), REQUEST_TIMEOUT_MS);
    this.#say('connecting');
    this.#end = this.#open(link);
  }

  #wait(error, pauseMs) {
    this.#drop();
    const asked = Math.max(pauseMs, this.#retryMs);
    // The stream's `retry:` is jittered by the server and is enough the first time; after that we step back further.
    const enough = asked > 0 && asked === this.#retryMs && this.#attempt === 0;
    const own = enough ? 0 : backoffDelay(this.#attempt, { random: this.#random });
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#try(), asked + own);
    this.#say('waiting', { retryAt: Date.now() + asked + own, error });
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#link = null;
    this.#end();
    this.#end = () => {};
  }

  #say(state, { retryAt = null, error = null } = {}) {
    this.state = state;
    this.#onState({ state, attempt: this.#attempt, retryAt, error });
  }
}

class CommentStream extends Reconnecting {
  #position;

  constructor(options, position) {
    super(options);
    this.#position = position;
  }

  /** Where this viewer stands: hand it to `comments` to resume. Empty before the first event. */
  get lastEventId() {
    return this.#position.lastEventId;
  }
}

// -------------------------------------------------------------------------------------------------------- client

export class Liverank {
  #base;
  #fetch;
  #WebSocket;
  #EventSource;
  #random;

  /**
   * `baseUrl`: the front door (the gateway), default the page's own origin. The rest is for tests and for platforms
   * that lack them: `fetch`, `WebSocket` (Node has one from version 22 on), `EventSource`, `random`.
   */
  constructor({ baseUrl = globalThis.location?.origin, fetch, WebSocket, EventSource, random = Math.random } = {}) {
    if (!baseUrl) throw new TypeError('baseUrl is needed outside a browser');
    this.#base = String(baseUrl).replace(/\/+$/, '');
    this.#fetch = fetch ?? globalThis.fetch.bind(globalThis);
    this.#WebSocket = WebSocket ?? globalThis.WebSocket;
    this.#EventSource = EventSource ?? globalThis.EventSource;
    this.#random = random;
  }

  /**
   * Sends one interaction `{video_id, user_id, type, watch_time?, owner_id?, timestamp?, event_id?}`; resolves to
   * `{event_id}` once it is durable. It is repeated under one `event_id`, so it counts once.
   */
  interact(event, options) {
    return this.#post('/interact', { event_id: newId(), ...event }, options);
  }

  /**
   * Posts a comment; resolves to the stored one, `{id, userid, videoid, comment, timestamp}`. It is repeated under the same
   * idempotency key. `options`: `signal`, `timeoutMs` (how long to repeat), `onRetry({error, retryAt})`.
   */
  async postComment({ userid, videoid, comment, idempotencyKey = newId() }, options) {
    const body = { userid, videoid, comment, idempotency_key: idempotencyKey };
    return (await this.#post('/comment', body, options)).comment;
  }

  /** Older comments, newest page first: `{comments, next}`; pass `next` as `before` for the page that precedes it. */
  history(videoid, { before, limit, signal } = {}) {
    return this.#get(`/comments/${encodeURIComponent(videoid)}${query({ before, limit })}`, signal);
  }

  /** One page of a ranked list: `{videos, next}`. */
  videos({ board, limit, cursor, signal } = {}) {
    return this.#get(`/videos${query({ board, limit, cursor })}`, signal);
  }

  /** One video with its counters and its viewers now; rejects with status 404 when nothing has happened to it yet. */
  video(videoId, { signal } = {}) {
    return this.#get(`/videos/${encodeURIComponent(videoId)}`, signal);
  }

  /** What every service reports. */
  statistics({ signal } = {}) {
    return this.#get('/statistics', signal);
  }

  /**
   * A video's comments as they come. Calls `onComment(comment)`, `onGap({from, to})` for what can no longer be had (from
   * and to are the first and the last `seq`), `onConnected({instance, …})`, `onState`. Returns `{close, retryNow, state, lastEventId}`;
   * give `lastEventId` back to resume later. Through the front door by default; with `direct: true` straight at the
   * video's reader, resolved again after every end.
   */
  comments(videoid, { userid, lastEventId = '', direct = false, onState, ...handlers }) {
    const position = new CommentPosition(lastEventId);
    const take = (link, event) => {
      const outcomes = readable(link, () => position.take(event)) ?? [];
      for (const { comment, gap, connected } of outcomes) {
        if (connected) {
          link.live();
          handlers.onConnected?.(connected);
        } else if (gap) handlers.onGap?.(gap);
        else handlers.onComment?.(comment);
      }
    };
    const path = () => `/connect${query({ userid, videoid, last_event_id: position.lastEventId })}`;
    const open = (link) => {
      if (!direct && this.#EventSource) return this.#eventSource(link, this.#base + path(), take);
      const where = direct ? (signal) => this.#reader(videoid, signal) : async () => this.#base;
      return this.#fetchStream(link, async (signal) => (await where(signal)) + path(), take);
    };
    return new CommentStream({ open, onState, random: this.#random }, position);
  }

  /**
   * A ranked list, best first: `onList(videos)` on connect and on every change, `[{video_id, score, user_id}]`. `board` is
   * `global` or `trending`; `limit` a number or `all`; `mode` `delta` (changes travel) or `list` (whole lists travel).
   * Returns `{close, retryNow, state}`.
   */
  ranking({ board, limit, mode = 'delta', onList, onState } = {}) {
    const path = `/ws/videos${query({ board, limit, mode: mode === 'delta' ? mode : undefined })}`;
    return this.#webSocket(path, { onList, onState });
  }

  /** The ranked videos of one owner, `[{video_id, score}]`, as `ranking` does it. */
  userRanking(userId, { limit, onList, onState } = {}) {
    return this.#webSocket(`/ws/user/${encodeURIComponent(userId)}${query({ limit })}`, { onList, onState });
  }

  // ------------------------------------------------------------------------------------------ streams

  /** The browser's own stream: it reconnects and resumes by itself, unless it was answered with anything but a 200. */
  #eventSource(link, url, take) {
    const source = new this.#EventSource(url);
    const deliver = (event) => {
      if (link.current()) take(link, { type: event.type, data: event.data, id: event.lastEventId });
    };
    source.addEventListener('message', deliver);
    source.addEventListener('gap', deliver);
    source.addEventListener('error', () => {
      if (source.readyState === this.#EventSource.CLOSED) link.lost(new LiverankError('the stream was refused'));
      else link.away();
    });
    return () => source.close();
  }

  /** The same over `fetch`, for Node and for the direct mode. `target` resolves to the URL. */
  #fetchStream(link, target, take) {
    const abort = new AbortController();
    const run = async () => {
      const url = await target(abort.signal);
      const response = await this.#fetch(url, { signal: abort.signal, headers: { accept: 'text/event-stream' }, cache: 'no-store' });
      if (!response.ok) throw await answerError(response);
      const parser = createSseParser({ onRetry: link.retry, onEvent: (event) => link.current() && take(link, event) });
      const text = new TextDecoder();
      const reader = response.body.getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        parser.feed(text.decode(part.value, { stream: true }));
      }
    };
    run().then(() => link.lost(), (error) => link.lost(error, error.retryAfterMs ?? 0));
    return () => abort.abort();
  }

  /** The reader that serves a video; one that nobody serves yet is registered. */
  async #reader(videoid, signal) {
    const found = await this.#get(`/resolve/${encodeURIComponent(videoid)}`, signal).catch((error) => {
      if (error.status !== 404) throw error;
      return this.#request('/register', { method: 'POST', body: { videoid }, signal });
    });
    return found.readerUrl.replace(/\/+$/, '');
  }

  #webSocket(path, { onList, onState }) {
    if (!this.#WebSocket) throw new TypeError('this platform has no WebSocket: pass one to the constructor');
    const open = (link) => {
      const socket = new this.#WebSocket(this.#base.replace(/^http/, 'ws') + path);
      let state = null;
      socket.onmessage = ({ data }) => {
        if (!link.current()) return;
        const message = readable(link, () => JSON.parse(data));
        if (message === undefined) return;
        if (!Array.isArray(message)) {
          const next = applyRankingMessage(state, message);
          if (next === null) link.lost(new LiverankError('the list went on without us'));
          if (next === null || next === state) return;
          state = next;
        }
        link.live();
        onList?.(state ? state.videos : message);
      };
      socket.onclose = () => link.lost(new LiverankError('the connection was closed'));
      socket.onerror = () => {};
      return () => {
        // Closing one that is not open yet makes a browser complain in its console, as if something had failed.
        if (socket.readyState === 0) socket.onopen = () => socket.close();
        else socket.close();
      };
    };
    return new Reconnecting({ open, onState, random: this.#random });
  }

  // ----------------------------------------------------------------------------------------- requests

  #get(path, signal) {
    return this.#request(path, { signal });
  }

  /** Posts until it is acknowledged or refused, or until `timeoutMs` have passed. */
  async #post(path, body, { signal, timeoutMs = POST_TIMEOUT_MS, onRetry = () => {} } = {}) {
    const deadline = Date.now() + timeoutMs;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#request(path, { method: 'POST', body, signal });
      } catch (error) {
        const pause = (error.retryAfterMs ?? 0) + backoffDelay(attempt, { random: this.#random });
        if (signal?.aborted || !error.retryable || Date.now() + pause > deadline) throw error;
        onRetry({ error, retryAt: Date.now() + pause });
        await sleep(pause, signal);
      }
    }
  }

  async #request(path, { method = 'GET', body, signal } = {}) {
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const init = { method, signal: signal ? AbortSignal.any([signal, timeout]) : timeout };
    if (body !== undefined) Object.assign(init, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
    try {
      const response = await this.#fetch(this.#base + path, init);
      if (!response.ok) throw await answerError(response);
      return await response.json();
    } catch (cause) {
      if (cause instanceof LiverankError) throw cause;
      throw new LiverankError(`${method} ${path}: ${cause.message}`, { cause });
    }
  }
}

/** What `read` returns; where it cannot make sense of what came, the attempt is over. */
function readable(link, read) {
  try {
    return read();
  } catch (cause) {
    link.lost(new LiverankError('the server sent something unreadable', { cause }));
    return undefined;
  }
}

async function answerError(response) {
  const problem = await response.json().catch(() => null);
  const said = problem?.detail ?? problem?.error ?? problem?.title ?? response.statusText;
  const wait = retryAfterMs(response.headers.get('retry-after'));
  return new LiverankError(`${response.status} ${said}`, { status: response.status, problem, retryAfterMs: wait });
}

function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`;
}

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(new LiverankError('given up', { cause: signal.reason }));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, ms);
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
  });
}
