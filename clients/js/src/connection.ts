import { LONGEST_REQUESTED_PAUSE_MS, LiverankError, asLiverankError, backoffDelay } from './error.js';

/** One attempt of opening a stream, in ms: longer than the server's own limit, so that its answer is seen. */
export const REQUEST_TIMEOUT_MS = 15_000;

/**
 * How a stream is: `connecting`, `live`, `waiting` for the next attempt, `failed` (the server's answer is final: nothing
 * is tried any more until `retryNow`), `closed` by its owner.
 */
export type StreamState = 'connecting' | 'live' | 'waiting' | 'failed' | 'closed';

/** What `onState` is told. */
export interface StreamStatus {
  state: StreamState;
  /** Failed attempts since the stream was live last. */
  attempt: number;
  /** When the next attempt begins, in ms since the epoch; null where none is planned. */
  retryAt: number | null;
  /** Why the last attempt ended; null where it ended without an error. */
  error: LiverankError | null;
}

/** A stream that stays open until it is closed. */
export interface Stream {
  readonly state: StreamState;
  /** Tries again at once, where it waits or has failed. */
  retryNow(): void;
  /** Ends it for good. */
  close(): void;
}

/** How one attempt tells how it fares. */
export interface Link {
  live(): void;
  /** The attempt is over. A final error ends the stream; otherwise the next attempt follows. */
  lost(error?: LiverankError | null): void;
  /** What the stream's `retry:` asks for, in ms. */
  retry(ms: number): void;
  /** Whether this attempt still is the one that counts. */
  current(): boolean;
}

/** What a {@link Connection} is made of. */
export interface ConnectionOptions {
  /** Starts an attempt and returns a function that ends it. */
  open: (link: Link) => () => void;
  onState?: ((status: StreamStatus) => void) | undefined;
  random: () => number;
}

/** Keeps one connection open: waits a random, growing, bounded time after each loss, and gives up on a final answer. */
export class Connection implements Stream {
  state: StreamState = 'connecting';
  readonly #options: ConnectionOptions;
  #end: () => void = () => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #link: Link | null = null;
  #retryMs = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    // Not at once: the caller's handlers may use what this constructor returns.
    queueMicrotask(() => this.state !== 'closed' && this.#try());
  }

  retryNow(): void {
    if (this.state !== 'waiting' && this.state !== 'failed') return;
    if (this.state === 'failed') this.#attempt = 0;
    this.#try();
  }

  close(): void {
    if (this.state === 'closed') return;
    this.#drop();
    this.#say('closed');
  }

  #try(): void {
    this.#drop();
    const current = (): boolean => this.#link === link;
    const link: Link = {
      live: () => {
        if (!current() || this.state === 'live') return;
        clearTimeout(this.#timer);
        this.#attempt = 0;
        this.#say('live');
      },
      lost: (error = null) => {
        if (!current()) return;
        if (error && !error.retryable) this.#fail(error);
        else this.#wait(error);
      },
      retry: (ms) => {
        this.#retryMs = Math.min(ms, LONGEST_REQUESTED_PAUSE_MS);
      },
      current,
    };
    this.#link = link;
    this.#timer = setTimeout(() => link.lost(new LiverankError('no answer in time')), REQUEST_TIMEOUT_MS);
    this.#say('connecting');
    if (!current()) return;
    this.#end = this.#options.open(link);
  }

  #fail(error: LiverankError): void {
    this.#drop();
    this.#say('failed', { error });
  }

  #wait(error: LiverankError | null): void {
    this.#drop();
    const asked = Math.max(error?.retryAfterMs ?? 0, this.#retryMs);
    // The stream's `retry:` is jittered by the server and is enough the first time; after that we step back further.
    const enough = asked > 0 && asked === this.#retryMs && this.#attempt === 0;
    const own = enough ? 0 : backoffDelay(this.#attempt, { random: this.#options.random });
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#try(), asked + own);
    this.#say('waiting', { retryAt: Date.now() + asked + own, error });
  }

  #drop(): void {
    clearTimeout(this.#timer);
    this.#link = null;
    const end = this.#end;
    this.#end = () => {};
    end();
  }

  #say(state: StreamState, { retryAt = null, error = null }: Partial<Pick<StreamStatus, 'retryAt' | 'error'>> = {}): void {
    this.state = state;
    this.#options.onState?.({ state, attempt: this.#attempt, retryAt, error });
  }
}

/** What `read` returns; where it cannot make sense of what came, the attempt is over and the answer undefined. */
export function readable<T>(link: Link, read: () => T): T | undefined {
  try {
    return read();
  } catch (cause) {
    link.lost(asLiverankError(cause, 'the server sent something unreadable'));
    return undefined;
  }
}
