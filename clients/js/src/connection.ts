import { LONGEST_REQUESTED_PAUSE_MS, LiverankError, asLiverankError, backoffDelay } from './error.js';

/**
 * The time limit of one attempt to open a stream, in ms: longer than the server's own limit, so that its answer is
 * seen.
 */
export const REQUEST_TIMEOUT_MS = 15_000;

/**
 * The state of a stream: `connecting`, `live`, `waiting` for the next attempt, `failed` (the server's answer is final:
 * nothing is tried any more until `retryNow`), `closed` by its owner.
 */
export type StreamState = 'connecting' | 'live' | 'waiting' | 'failed' | 'closed';

/** The status of a stream, as `onState` gets it. */
export interface StreamStatus {
  state: StreamState;
  /** The number of failed attempts since the stream was last live. */
  attempt: number;
  /** The time at which the next attempt begins, in ms since the epoch; null if none is planned. */
  retryAt: number | null;
  /** The reason why the last attempt ended; null if it ended without an error. */
  error: LiverankError | null;
}

/** A stream that is reopened after each loss until it is closed. */
export interface Stream {
  readonly state: StreamState;
  /** Tries again at once if the stream is waiting or has failed. */
  retryNow(): void;
  /** Ends the stream for good. */
  close(): void;
}

/** The functions by which one attempt reports its progress to its connection. */
export interface Link {
  live(): void;
  /** Reports that the attempt is over. A final error ends the stream; otherwise the next attempt follows. */
  lost(error?: LiverankError | null): void;
  /** Reports the pause that the stream's `retry:` asks for, in ms. */
  retry(ms: number): void;
  /** Whether this attempt is still the current one of its connection. */
  current(): boolean;
}

/** The options of a {@link Connection}. */
export interface ConnectionOptions {
  /** Starts an attempt and returns a function that ends the attempt. */
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
    // The first attempt begins later than the constructor: the caller's handlers may use what it returns.
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
    // The stream's `retry:` is jittered by the server and is enough the first time; later pauses grow beyond it.
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

/**
 * Returns what `read` returns. If `read` throws, because the data make no sense, the attempt is lost and undefined is
 * returned.
 */
export function readable<T>(link: Link, read: () => T): T | undefined {
  try {
    return read();
  } catch (cause) {
    link.lost(asLiverankError(cause, 'the server sent something unreadable'));
    return undefined;
  }
}
