/**
 * What liverank's wire formats mean, as functions without a network; time and chance can be given to them.
 * `liverank.js` is the client that uses them and exports them again.
 */

/** First and longest pause between two attempts, in ms. The cap keeps a person in front of a page from giving up. */
const BACKOFF = { baseMs: 500, capMs: 10_000 };
/** A server may ask for a longer pause (`Retry-After`, `retry:`), but not for one that looks like a hang, in ms. */
export const LONGEST_REQUESTED_PAUSE_MS = 60_000;
/** An event of a stream may not be longer than this many characters: the longest comment is 4,096. */
const LONGEST_EVENT = 1 << 20;

/** What a request that was answered with an error, or with no answer at all, rejects with. */
export class LiverankError extends Error {
  /** `status` is 0 without an answer; `problem` is the problem-details body where there was one. */
  constructor(message, { status = 0, problem = null, retryAfterMs = null, cause } = {}) {
    super(message, { cause });
    this.name = 'LiverankError';
    this.status = status;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may succeed later. */
  get retryable() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** The pause before attempt number `attempt` (0 is the first repeat), in ms: exponential, capped, full jitter. */
export function backoffDelay(attempt, { baseMs = BACKOFF.baseMs, capMs = BACKOFF.capMs, random = Math.random } = {}) {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(random() * ceiling);
}

/** A `Retry-After` header (seconds or a date) in ms from `nowMs`, at most a minute; null when absent or unreadable. */
export function retryAfterMs(header, nowMs = Date.now()) {
  if (!header) return null;
  const wait = /^\s*\d+\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - nowMs;
  return Number.isNaN(wait) ? null : Math.min(Math.max(wait, 0), LONGEST_REQUESTED_PAUSE_MS);
}

/** Compares two strings by the bytes of their UTF-8 form, as the server does; `<` on strings compares UTF-16 instead. */
export function compareUtf8(a, b) {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i += 1) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // Surrogates (U+10000 and up) sort below U+E000…U+FFFF in UTF-16 and above them in UTF-8.
    const xHigh = x >= 0xd800 && x <= 0xdfff;
    const yHigh = y >= 0xd800 && y <= 0xdfff;
    return xHigh === yHigh ? x - y : xHigh ? 1 : -1;
  }
  return a.length - b.length;
}

/** The order of a ranked list: score descending, ties by the id's bytes descending. */
export function compareRanked(a, b) {
  return b.score - a.score || compareUtf8(b.video_id, a.video_id);
}

/**
 * Applies one message of `/ws/videos?mode=delta`. `state` is null or `{version, videos}`; neither it nor its list is changed.
 * Returns the next state, or null when the delta is based on another version: then only a new snapshot helps.
 */
export function applyRankingMessage(state, message) {
  if (message.type === 'snapshot') return { version: message.version, videos: message.videos };
  if (message.type !== 'delta') return state;
  if (!state || message.base !== state.version) return null;
  const videos = new Map(state.videos.map((video) => [video.video_id, video]));
  for (const id of message.remove ?? []) videos.delete(id);
  for (const video of message.set ?? []) videos.set(video.video_id, video);
  return { version: message.version, videos: [...videos.values()].sort(compareRanked) };
}

/**
 * A parser of `text/event-stream`: feed it text as it comes, in pieces cut anywhere. Calls `onEvent({type, data, id})` with
 * the id in force, and `onRetry(ms)`. Throws when a single event grows beyond any sense.
 */
export function createSseParser({ onEvent, onRetry = () => {} }) {
  let rest = '';
  let afterCr = false;
  let started = false;
  let id = '';
  let type = '';
  let data = [];
  let size = 0;

  const field = (name, value) => {
    if (name === 'data') data.push(value);
    else if (name === 'event') type = value;
    else if (name === 'id' && !value.includes('\0')) id = value;
    else if (name === 'retry' && /^\d+$/.test(value)) onRetry(Number(value));
  };
  const line = (text) => {
    if (text === '') {
      if (data.length > 0) onEvent({ type: type || 'message', data: data.join('\n'), id });
      type = '';
      data = [];
      size = 0;
      return;
    }
    size += text.length;
    if (size > LONGEST_EVENT) throw new LiverankError('an event of the stream is too long');
    const colon = text.indexOf(':');
    if (colon < 0) field(text, '');
    else if (colon > 0) field(text.slice(0, colon), text.slice(colon + (text[colon + 1] === ' ' ? 2 : 1)));
  };

  return {
    feed(chunk) {
      if (chunk === '') return;
      let text = chunk;
      if (!started && text[0] === '\ufeff') text = text.slice(1);
      started = true;
      // The newline of a CRLF that was cut in two belongs to the line that is already done.
      if (afterCr && text[0] === '\n') text = text.slice(1);
      afterCr = chunk.endsWith('\r');
      const lines = (rest + text).split(/\r\n|\r|\n/);
      rest = lines.pop();
      if (rest.length > LONGEST_EVENT) throw new LiverankError('a line of the stream is too long');
      lines.forEach(line);
    },
  };
}

/**
 * Where a viewer stands in a video's comments. `take` turns one event of the stream into what it means:
 * `{connected}`, `{comment}`, `{gap: {from, to}}`, in order, repeats dropped, holes reported.
 */
export class CommentPosition {
  #numbering = null;
  #seq = 0;

  constructor(lastEventId = '') {
    this.lastEventId = '';
    this.#moveTo(lastEventId);
  }

  take({ type, data, id }) {
    const body = JSON.parse(data);
    if (type === 'gap') {
      this.#moveTo(id);
      return [{ gap: { from: body.from, to: body.to } }];
    }
    if (type !== 'message') return [];
    if (body.type === 'connected') {
      // Once there is a position, only what was received moves it: the greeting may name the head, ahead of what is missed.
      if (this.#numbering === null) this.#moveTo(id);
      return [{ connected: body }];
    }
    return this.#comment(body, id);
  }

  #comment(comment, id) {
    const at = parseEventId(id);
    const outcomes = [];
    if (at && at.numbering === this.#numbering) {
      if (at.seq <= this.#seq) return [];
      if (at.seq > this.#seq + 1) outcomes.push({ gap: { from: this.#seq + 1, to: at.seq - 1 } });
    }
    this.#moveTo(id);
    outcomes.push({ comment });
    return outcomes;
  }

  #moveTo(id) {
    const at = parseEventId(id);
    if (!at) return;
    this.#numbering = at.numbering;
    this.#seq = at.seq;
    this.lastEventId = id;
  }
}

/** An event id `numbering-seq` in its two parts, or null. */
function parseEventId(id) {
  const parts = /^(.+)-(\d+)$/.exec(id ?? '');
  return parts && { numbering: parts[1], seq: Number(parts[2]) };
}
