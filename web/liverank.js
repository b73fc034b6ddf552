/**
 * liverank.js: the client of liverank for browsers, in one module without dependencies.
 *
 *   import { Liverank } from './liverank.js';
 *   const liverank = new Liverank({ baseUrl: 'http://localhost:8080' });
 *   liverank.ranking({ limit: 10, onList: (videos) => console.table(videos) });
 *   const chat = liverank.comments('cat', { userid: 'ana', onComment: (comment) => console.log(comment.comment) });
 *   await liverank.postComment({ userid: 'ana', videoid: 'cat', comment: 'hello' });
 *
 * Made from clients/js/src by `npm run build` there. Do not edit.
 */

// src/error.ts
var BACKOFF = { baseMs: 500, capMs: 1e4 };
var LONGEST_REQUESTED_PAUSE_MS = 6e4;
var LiverankError = class extends Error {
  /** The HTTP status; 0 if no answer came. */
  status;
  /** The body of the error, if the server sent one. `problem.field` names the field that is wrong. */
  problem;
  /** The wait that the server asks for, in ms; null if it asks for none. */
  retryAfterMs;
  constructor(message, { status = 0, problem = null, retryAfterMs: retryAfterMs2 = null, cause } = {}) {
    super(message, cause === void 0 ? void 0 : { cause });
    this.name = "LiverankError";
    this.status = status;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs2;
  }
  /**
   * Whether the same request may succeed later. A request with a final answer (400, 401, 403, 404 …) is not repeated.
   */
  get retryable() {
    return this.status === 0 || this.status === 408 || this.status === 425 || this.status === 429 || this.status >= 500;
  }
};
function asLiverankError(failure, doing) {
  if (failure instanceof LiverankError) return failure;
  const reason = failure instanceof Error ? failure.message : String(failure);
  return new LiverankError(`${doing}: ${reason}`, { cause: failure });
}
async function answerError(response) {
  const problem = await response.json().catch(() => null);
  const said = problem?.detail ?? problem?.error ?? problem?.title ?? response.statusText;
  return new LiverankError(`${response.status} ${said}`.trim(), {
    status: response.status,
    problem,
    retryAfterMs: retryAfterMs(response.headers.get("retry-after"))
  });
}
function backoffDelay(attempt, { baseMs = BACKOFF.baseMs, capMs = BACKOFF.capMs, random = Math.random } = {}) {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(random() * ceiling);
}
function retryAfterMs(header, nowMs = Date.now()) {
  if (!header) return null;
  const wait = /^\s*\d+\s*$/.test(header) ? Number(header) * 1e3 : Date.parse(header) - nowMs;
  return Number.isNaN(wait) ? null : Math.min(Math.max(wait, 0), LONGEST_REQUESTED_PAUSE_MS);
}

// src/connection.ts
var REQUEST_TIMEOUT_MS = 15e3;
var Connection = class {
  state = "connecting";
  #options;
  #end = () => {
  };
  #timer;
  #attempt = 0;
  #link = null;
  #retryMs = 0;
  constructor(options) {
    this.#options = options;
    queueMicrotask(() => this.state !== "closed" && this.#try());
  }
  retryNow() {
    if (this.state !== "waiting" && this.state !== "failed") return;
    if (this.state === "failed") this.#attempt = 0;
    this.#try();
  }
  close() {
    if (this.state === "closed") return;
    this.#drop();
    this.#say("closed");
  }
  #try() {
    this.#drop();
    const current = () => this.#link === link;
    const link = {
      live: () => {
        if (!current() || this.state === "live") return;
        clearTimeout(this.#timer);
        this.#attempt = 0;
        this.#say("live");
      },
      lost: (error = null) => {
        if (!current()) return;
        if (error && !error.retryable) this.#fail(error);
        else this.#wait(error);
      },
      retry: (ms) => {
        this.#retryMs = Math.min(ms, LONGEST_REQUESTED_PAUSE_MS);
      },
      current
    };
    this.#link = link;
    this.#timer = setTimeout(() => link.lost(new LiverankError("no answer in time")), REQUEST_TIMEOUT_MS);
    this.#say("connecting");
    if (!current()) return;
    this.#end = this.#options.open(link);
  }
  #fail(error) {
    this.#drop();
    this.#say("failed", { error });
  }
  #wait(error) {
    this.#drop();
    const asked = Math.max(error?.retryAfterMs ?? 0, this.#retryMs);
    const enough = asked > 0 && asked === this.#retryMs && this.#attempt === 0;
    const own = enough ? 0 : backoffDelay(this.#attempt, { random: this.#options.random });
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#try(), asked + own);
    this.#say("waiting", { retryAt: Date.now() + asked + own, error });
  }
  #drop() {
    clearTimeout(this.#timer);
    this.#link = null;
    const end = this.#end;
    this.#end = () => {
    };
    end();
  }
  #say(state, { retryAt = null, error = null } = {}) {
    this.state = state;
    this.#options.onState?.({ state, attempt: this.#attempt, retryAt, error });
  }
};
function readable(link, read) {
  try {
    return read();
  } catch (cause) {
    link.lost(asLiverankError(cause, "the server sent something unreadable"));
    return void 0;
  }
}

// src/http.ts
var POST_TIMEOUT_MS = 6e4;
var Http = class {
  base;
  #fetch;
  #random;
  #source;
  #held = null;
  constructor(base, fetcher, random, token) {
    this.base = base;
    this.#fetch = fetcher;
    this.#random = random;
    this.#source = token;
  }
  /** Returns the token in force; null if there is none. Its source is asked once, however many callers wait. */
  token() {
    if (this.#held) return this.#held;
    const asked = this.#ask();
    this.#held = asked;
    asked.catch(() => this.#held === asked && (this.#held = null));
    return asked;
  }
  async #ask() {
    if (typeof this.#source !== "function") return this.#source || null;
    try {
      return await this.#source() || null;
    } catch (cause) {
      throw asLiverankError(cause, "the token could not be had");
    }
  }
  /** Makes the next request ask for a token again. */
  forgetToken() {
    this.#held = null;
  }
  /**
   * Sends one request. If the token is refused, it is renewed once and the request is repeated. Rejects with the
   * answer's error if its status is bad; `accept` is a status that counts as good all the same.
   */
  async send(path, init = {}, accept = 0) {
    for (let renewed = false; ; renewed = true) {
      const held = this.token();
      const token = await held;
      const headers = new Headers(init.headers);
      if (token) headers.set("authorization", `Bearer ${token}`);
      const response = await this.#fetch(this.base + path, { ...init, headers });
      if (response.ok || response.status === accept) return response;
      if (response.status !== 401 || renewed || typeof this.#source !== "function") throw await answerError(response);
      await response.body?.cancel();
      if (this.#held === held) this.#held = null;
    }
  }
  /** Sends a request that is answered in JSON, with a time limit; rejects with a {@link LiverankError}. */
  async json(path, { method = "GET", body, signal } = {}) {
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const init = { method, signal: signal ? AbortSignal.any([signal, timeout]) : timeout };
    if (body !== void 0) Object.assign(init, { body: JSON.stringify(body), headers: { "content-type": "application/json" } });
    try {
      const response = await this.send(path, init);
      return await response.json();
    } catch (cause) {
      throw asLiverankError(cause, `${method} ${path}`);
    }
  }
  /** Posts until the request is acknowledged or refused, or until `timeoutMs` have passed. */
  async post(path, body, { signal, timeoutMs = POST_TIMEOUT_MS, onRetry = () => {
  } } = {}) {
    const deadline = Date.now() + timeoutMs;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.json(path, { method: "POST", body, signal });
      } catch (cause) {
        const error = asLiverankError(cause, `POST ${path}`);
        const pause = (error.retryAfterMs ?? 0) + backoffDelay(attempt, { random: this.#random });
        if (signal?.aborted || !error.retryable || Date.now() + pause > deadline) throw error;
        onRetry({ error, retryAt: Date.now() + pause });
        await sleep(pause, signal);
      }
    }
  }
};
function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== void 0 && value !== null && value !== "");
  return given.length === 0 ? "" : `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
}
function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(new LiverankError("given up", { cause: signal?.reason }));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
  });
}

// src/position.ts
var CommentPosition = class {
  /** The event id to resume from; empty before the first event. */
  lastEventId = "";
  #numbering = null;
  #seq = 0;
  constructor(lastEventId = "") {
    this.#moveTo(lastEventId);
  }
  /** Returns the meaning of an event and moves the position. Throws if the event's data are no JSON. */
  take({ type, data, id }) {
    if (data === "") return this.#step(id, []);
    const body = JSON.parse(data);
    if (type === "gap") {
      this.#moveTo(id);
      const { from, to } = body;
      return [{ gap: { from, to } }];
    }
    if (type === "viewers") return [{ viewers: body.viewers }];
    if (type === "deleted") return this.#step(id, [{ deleted: body }]);
    if (type === "pinned") return this.#step(id, [{ pinned: body }]);
    if (type !== "message") return [];
    if (body.type === "connected") {
      if (this.#numbering === null) this.#moveTo(id);
      return [{ connected: body }];
    }
    return this.#step(id, [{ comment: body }]);
  }
  #step(id, what) {
    const at = parseEventId(id);
    const outcomes = [];
    if (at && at.numbering === this.#numbering) {
      if (at.seq <= this.#seq) return [];
      if (at.seq > this.#seq + 1) outcomes.push({ gap: { from: this.#seq + 1, to: at.seq - 1 } });
    }
    this.#moveTo(id);
    return [...outcomes, ...what];
  }
  #moveTo(id) {
    const at = parseEventId(id);
    if (!at) return;
    this.#numbering = at.numbering;
    this.#seq = at.seq;
    this.lastEventId = id;
  }
};
function parseEventId(id) {
  const parts = /^(.+)-(\d+)$/.exec(id);
  return parts ? { numbering: parts[1], seq: Number(parts[2]) } : null;
}

// src/ranking.ts
function compareUtf8(a, b) {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i += 1) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    const xHigh = x >= 55296 && x <= 57343;
    const yHigh = y >= 55296 && y <= 57343;
    return xHigh === yHigh ? x - y : xHigh ? 1 : -1;
  }
  return a.length - b.length;
}
function compareRanked(a, b) {
  return b.score - a.score || compareUtf8(b.video_id, a.video_id);
}
function applyRankingMessage(state, message) {
  if (message.type === "snapshot") return { version: message.version, videos: message.videos };
  if (message.type !== "delta") return state;
  if (!state || message.base !== state.version) return null;
  const videos = new Map(state.videos.map((video) => [video.video_id, video]));
  for (const id of message.remove ?? []) videos.delete(id);
  for (const video of message.set ?? []) videos.set(video.video_id, { ...videos.get(video.video_id), ...video });
  return { version: message.version, videos: [...videos.values()].sort(compareRanked) };
}

// src/sse.ts
var LONGEST_EVENT = 1 << 20;
function createSseParser({ onEvent, onRetry = () => {
} }) {
  let rest = "";
  let afterCr = false;
  let started = false;
  let id = "";
  let type = "";
  let data = [];
  let moved = false;
  let size = 0;
  const field = (name, value) => {
    if (name === "data") data.push(value);
    else if (name === "event") type = value;
    else if (name === "id" && !value.includes("\0")) {
      id = value;
      moved = true;
    } else if (name === "retry" && /^\d+$/.test(value)) onRetry(Number(value));
  };
  const line = (text) => {
    if (text === "") {
      if (data.length > 0 || moved) onEvent({ type: type || "message", data: data.join("\n"), id });
      type = "";
      data = [];
      moved = false;
      size = 0;
      return;
    }
    size += text.length;
    if (size > LONGEST_EVENT) throw new LiverankError("an event of the stream is too long");
    const colon = text.indexOf(":");
    if (colon < 0) field(text, "");
    else if (colon > 0) field(text.slice(0, colon), text.slice(colon + (text[colon + 1] === " " ? 2 : 1)));
  };
  return {
    feed(chunk) {
      if (chunk === "") return;
      let text = chunk;
      if (!started && text[0] === "\uFEFF") text = text.slice(1);
      started = true;
      if (afterCr && text[0] === "\n") text = text.slice(1);
      afterCr = chunk.endsWith("\r");
      const lines = (rest + text).split(/\r\n|\r|\n/);
      rest = lines.pop() ?? "";
      if (rest.length > LONGEST_EVENT) throw new LiverankError("a line of the stream is too long");
      lines.forEach(line);
    }
  };
}

// src/client.ts
var SILENCE_MS = 6e4;
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
var Liverank = class {
  #http;
  #fetch;
  #WebSocket;
  #random;
  constructor({ baseUrl = globalThis.location?.origin, token, fetch: given, WebSocket, random = Math.random } = {}) {
    if (!baseUrl || baseUrl === "null") throw new TypeError("baseUrl is needed outside a browser");
    this.#fetch = given ?? ((...request) => globalThis.fetch(...request));
    this.#http = new Http(String(baseUrl).replace(/\/+$/, ""), this.#fetch, random, token);
    this.#WebSocket = WebSocket ?? globalThis.WebSocket;
    this.#random = random;
  }
  /** Has the next request and connection ask the token function again: after a sign-in or a sign-out. */
  forgetToken() {
    this.#http.forgetToken();
  }
  /** Sends one interaction. Resolves once it is durable. It is repeated under one `event_id`, so it counts once. */
  interact(event, options) {
    return this.#http.post("/interact", { event_id: newId(), ...event }, options);
  }
  /**
   * Posts a comment. Resolves to the stored one, with `held` where nobody sees it before a moderator releases it. It is repeated
   * under the same idempotency key.
   */
  async postComment({ userid, videoid, comment, replyTo, idempotencyKey = newId() }, options) {
    const body = { userid, videoid, comment, reply_to: replyTo, idempotency_key: idempotencyKey };
    const answer = await this.#http.post("/comment", body, options);
    return answer.held ? { ...answer.comment, held: true } : answer.comment;
  }
  /**
   * A page of a video's comments, newest first. Pass `next` as `before` for older ones, and `newer` as `after` for newer ones.
   */
  history(videoid, { before, after, around, userid, limit, signal } = {}) {
    const path = `/comments/${encodeURIComponent(videoid)}${query({ before, after, around, userid, limit })}`;
    return this.#http.json(path, { signal });
  }
  /** The boards, those that were declared among them, and the windows of those that have some. */
  boards({ signal } = {}) {
    return this.#http.json("/boards", { signal });
  }
  /** One page of a ranked list. */
  videos({ board, window, limit, cursor, around, fields, signal } = {}) {
    const path = `/videos${query({ board, window, limit, cursor, around, fields: fields?.join() })}`;
    return this.#http.json(path, { signal });
  }
  /** One video with its counters, its viewers now and its ranks. Rejects with status 404 when nothing has happened to it yet. */
  video(videoId, { signal } = {}) {
    return this.#http.json(`/videos/${encodeURIComponent(videoId)}`, { signal });
  }
  /** What every service reports. */
  statistics({ signal } = {}) {
    return this.#http.json("/statistics", { signal });
  }
  /** A video's comments as they come. */
  comments(videoid, { userid, lastEventId = "", direct = false, onState, ...handlers }) {
    const position = new CommentPosition(lastEventId);
    const take = (link, event) => {
      if (event.type === UNAUTHORIZED_EVENT) this.#http.forgetToken();
      for (const outcome of readable(link, () => position.take(event)) ?? []) {
        if ("connected" in outcome) {
          link.live();
          handlers.onConnected?.(outcome.connected);
        } else if ("gap" in outcome) handlers.onGap?.(outcome.gap);
        else if ("deleted" in outcome) handlers.onDeleted?.(outcome.deleted);
        else if ("pinned" in outcome) handlers.onPinned?.(outcome.pinned);
        else if ("viewers" in outcome) handlers.onViewers?.(outcome.viewers);
        else handlers.onComment?.(outcome.comment);
      }
    };
    const wanted = [handlers.onViewers && "viewers", handlers.onDeleted && "deleted", handlers.onPinned && "pinned"];
    const events = wanted.filter(Boolean).join(",") || void 0;
    const path = () => `/connect${query({ userid, videoid, events, last_event_id: position.lastEventId })}`;
    const ask = async (init) => {
      if (!direct) return this.#http.send(path(), init);
      const response = await this.#fetch(await this.#reader(videoid, init.signal ?? void 0) + path(), init);
      if (!response.ok) throw await answerError(response);
      return response;
    };
    const connection = new Connection({ open: (link) => openStream(link, ask, take), onState, random: this.#random });
    return Object.defineProperty(connection, "lastEventId", { get: () => position.lastEventId });
  }
  /** Removes a comment: one's own, or as a moderator anybody's. Resolves once the log has it. */
  async deleteComment(videoid, id, { reason, signal } = {}) {
    const path = `/comments/${encodeURIComponent(videoid)}/${encodeURIComponent(id)}${query({ reason })}`;
    await this.#http.json(path, { method: "DELETE", signal });
  }
  /** Says that something is wrong with a comment. It counts once for a user. Resolves once the log has it. */
  async reportComment(videoid, id, report, { signal } = {}) {
    const path = `/comments/${encodeURIComponent(videoid)}/${encodeURIComponent(id)}/reports`;
    await this.#http.json(path, { method: "POST", body: report, signal });
  }
  /** The comments that were reported, as a moderator. Pass `next` as `after` for the page that follows. */
  reports({ state, order, after, limit, signal } = {}) {
    return this.#http.json(`/moderation/reports${query({ state, order, after, limit })}`, { signal });
  }
  /** Decides on a comment that was reported, as a moderator. Resolves once the log has it. */
  async decideReports(decision, { signal } = {}) {
    await this.#http.json("/moderation/reports", { method: "POST", body: decision, signal });
  }
  /** Bans or mutes a user, as a moderator. Resolves once the log has it; it is in force within a second. */
  ban(whom, { signal } = {}) {
    return this.#http.json("/moderation/bans", { method: "POST", body: whom, signal });
  }
  /** Ends a ban or a mute of this kind and in this place, as a moderator. */
  liftBan({ userid, kind, videoid, owner_id, reason }, { signal } = {}) {
    const path = `/moderation/bans${query({ userid, kind, videoid, owner_id, reason })}`;
    return this.#http.json(path, { method: "DELETE", signal });
  }
  /** The bans and mutes in force, as a moderator. Pass `next` as `after` for the page that follows. */
  bans({ after, limit, signal } = {}) {
    return this.#http.json(`/moderation/bans${query({ after, limit })}`, { signal });
  }
  /** The comments that wait for a moderator, oldest first. Pass `next` as `after` for the page that follows. */
  held({ after, limit, signal } = {}) {
    return this.#http.json(`/moderation/held${query({ after, limit })}`, { signal });
  }
  /** Releases a comment that waits, or rejects it, as a moderator. Resolves once the log has it. */
  async reviewHeld(review, { signal } = {}) {
    await this.#http.json("/moderation/held", { method: "POST", body: review, signal });
  }
  /** Pins a comment of a video in the place of the one that was, as a moderator. Resolves once the log has it. */
  pinComment(videoid, id, { reason, signal } = {}) {
    return this.#http.json("/moderation/pins", { method: "POST", body: { videoid, id, reason }, signal });
  }
  /** Pins no comment of a video any more, as a moderator. */
  unpinComment(videoid, { reason, signal } = {}) {
    return this.#http.json(`/moderation/pins${query({ videoid, reason })}`, { method: "DELETE", signal });
  }
  /** The rules of comments in force, as a moderator. Pass `next` as `after` for the page that follows. */
  commentRules({ after, limit, signal } = {}) {
    return this.#http.json(`/moderation/rules${query({ after, limit })}`, { signal });
  }
  /** Says what comments must be like in a place, in the place of what was said before. In force within a second. */
  setCommentRules(rules, { signal } = {}) {
    return this.#http.json("/moderation/rules", { method: "POST", body: rules, signal });
  }
  /** Takes the rules of a place away. */
  removeCommentRules({ videoid, owner_id, reason }, { signal } = {}) {
    return this.#http.json(`/moderation/rules${query({ videoid, owner_id, reason })}`, { method: "DELETE", signal });
  }
  /** What was done, newest first, as a moderator. Pass `next` as `before` for the page that follows. */
  moderationLog({ before, limit, signal } = {}) {
    return this.#http.json(`/moderation/log${query({ before, limit })}`, { signal });
  }
  /** A ranked list, best first. */
  ranking({ board, limit, fields, mode = "delta", onList, onState } = {}) {
    const asked = { board, limit, mode: mode === "delta" ? mode : void 0, fields: fields?.join() };
    return this.#list(`/ws/videos${query(asked)}`, { onList, onState });
  }
  /** The part of a ranked list that has a video in its middle, wherever the video stands. */
  rankingAround(videoId, { board, limit, fields, onPart, onState } = {}) {
    const asked = { board, limit, around: videoId, fields: fields?.join() };
    return this.#list(`/ws/videos${query(asked)}`, { onPart, onState });
  }
  /** The ranked videos of one owner, as {@link Liverank.ranking} does it. */
  userRanking(userId, { limit, onList, onState } = {}) {
    return this.#list(`/ws/user/${encodeURIComponent(userId)}${query({ limit })}`, { onList, onState });
  }
  /** The reader that serves a video; one that nobody serves yet is registered. */
  async #reader(videoid, signal) {
    const found = await this.#http.json(`/resolve/${encodeURIComponent(videoid)}`, { signal }).catch((error) => {
      if (error.status !== 404) throw error;
      return this.#http.json("/register", { method: "POST", body: { videoid }, signal });
    });
    return found.readerUrl.replace(/\/+$/, "");
  }
  #list(path, { onList, onPart, onState }) {
    const WebSocket = this.#WebSocket;
    if (!WebSocket) throw new TypeError("this platform has no WebSocket: pass one to the constructor");
    const open = (link) => {
      let state = null;
      let socket = null;
      const message = ({ data }) => {
        if (!link.current()) return;
        const read = readable(link, () => JSON.parse(String(data)));
        if (read === void 0) return;
        if ("first_rank" in read) {
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
        if (next === null) link.lost(new LiverankError("the list went on without us"));
        if (next === null || next === state) return;
        state = next;
        link.live();
        onList?.(next.videos);
      };
      const run = async () => {
        const token = await this.#http.token();
        if (!link.current()) return;
        socket = new WebSocket(this.#http.base.replace(/^http/, "ws") + withToken(path, token));
        let opened = false;
        socket.onopen = () => {
          opened = true;
        };
        socket.onmessage = (event) => {
          opened = true;
          message(event);
        };
        socket.onclose = (event) => {
          if (event?.code === UNAUTHORIZED_STATUS) this.#http.forgetToken();
          void this.#closed(link, path, opened);
        };
        socket.onerror = () => {
        };
      };
      run().catch((cause) => link.lost(asLiverankError(cause, `GET ${path}`)));
      return () => socket && closeQuietly(socket);
    };
    return new Connection({ open, onState, random: this.#random });
  }
  /** A WebSocket that never opened does not say why: the same request without its handshake does. */
  async #closed(link, path, opened) {
    if (!link.current()) return;
    if (opened) return link.lost(new LiverankError("the connection was closed"));
    try {
      const answer = await this.#http.send(path, { cache: "no-store", signal: AbortSignal.timeout(REQUEST_MS) }, 426);
      await answer.body?.cancel();
      link.lost(new LiverankError("the connection was closed"));
    } catch (cause) {
      link.lost(asLiverankError(cause, `GET ${path}`));
    }
  }
};
var UNAUTHORIZED_EVENT = "unauthorized";
var UNAUTHORIZED_STATUS = 4401;
var REQUEST_MS = 1e4;
function withToken(path, token) {
  if (!token) return path;
  return `${path}${path.includes("?") ? "&" : "?"}${new URLSearchParams({ access_token: token })}`;
}
function closeQuietly(socket) {
  if (socket.readyState === 0) socket.onopen = () => socket.close();
  else socket.close();
}
var STREAM_OR_PROBLEM = "text/event-stream, application/problem+json";
function openStream(link, ask, take) {
  const abort = new AbortController();
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => link.lost(new LiverankError("the stream fell silent")), SILENCE_MS);
  };
  const run = async () => {
    const response = await ask({ signal: abort.signal, headers: { accept: STREAM_OR_PROBLEM }, cache: "no-store" });
    if (!response.body) throw new LiverankError("the stream has no body");
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
    (cause) => link.lost(asLiverankError(cause, "the stream ended"))
  );
  return () => {
    clearTimeout(silence);
    abort.abort();
  };
}
export {
  CommentPosition,
  Liverank,
  LiverankError,
  applyRankingMessage,
  backoffDelay,
  compareRanked,
  compareUtf8,
  createSseParser,
  newId,
  retryAfterMs
};
