import { REQUEST_TIMEOUT_MS } from './connection.js';
import { LiverankError, answerError, asLiverankError, backoffDelay } from './error.js';

/** The time for which a post is repeated before the caller gets the error, in ms. */
const POST_TIMEOUT_MS = 60_000;

/** A token, or a function that returns one; the function is called again when the server refuses its token. */
export type TokenSource = string | (() => string | null | undefined | Promise<string | null | undefined>);

/** Options of requests that write. */
export interface PostOptions {
  signal?: AbortSignal;
  /** The time for which the request is repeated while there is no final answer, in ms; 60,000 by default. */
  timeoutMs?: number;
  /** Called before each pause. `retryAt` is the time of the next try, in ms since the epoch. */
  onRetry?: (why: { error: LiverankError; retryAt: number }) => void;
}

/** Query parameters; empty ones (undefined, null or '') are left out. */
export type Query = Record<string, string | number | boolean | null | undefined>;

/** Sends requests to one origin, with a token if there is one. */
export class Http {
  readonly base: string;
  readonly #fetch: typeof fetch;
  readonly #random: () => number;
  readonly #source: TokenSource | undefined;
  #held: Promise<string | null> | null = null;

  constructor(base: string, fetcher: typeof fetch, random: () => number, token: TokenSource | undefined) {
    this.base = base;
    this.#fetch = fetcher;
    this.#random = random;
    this.#source = token;
  }

  /** Returns the token in force; null if there is none. Its source is asked once, however many callers wait. */
  token(): Promise<string | null> {
    if (this.#held) return this.#held;
    const asked = this.#ask();
    this.#held = asked;
    // A failure is not kept: the next request asks for a token again.
    asked.catch(() => this.#held === asked && (this.#held = null));
    return asked;
  }

  async #ask(): Promise<string | null> {
    if (typeof this.#source !== 'function') return this.#source || null;
    try {
      return (await this.#source()) || null;
    } catch (cause) {
      throw asLiverankError(cause, 'the token could not be had');
    }
  }

  /** Makes the next request ask for a token again. */
  forgetToken(): void {
    this.#held = null;
  }

  /**
   * Sends one request. If the token is refused, it is renewed once and the request is repeated. Rejects with the
   * answer's error if its status is bad; `accept` is a status that counts as good all the same.
   */
  async send(path: string, init: RequestInit = {}, accept = 0): Promise<Response> {
    for (let renewed = false; ; renewed = true) {
      const held = this.token();
      const token = await held;
      const headers = new Headers(init.headers);
      if (token) headers.set('authorization', `Bearer ${token}`);
      const response = await this.#fetch(this.base + path, { ...init, headers });
      if (response.ok || response.status === accept) return response;
      if (response.status !== 401 || renewed || typeof this.#source !== 'function') throw await answerError(response);
      await response.body?.cancel();
      // Another request may have renewed the token meanwhile.
      if (this.#held === held) this.#held = null;
    }
  }

  /** Sends a request that is answered in JSON, with a time limit; rejects with a {@link LiverankError}. */
  async json<T>(path: string, { method = 'GET', body, signal }: { method?: string; body?: unknown; signal?: AbortSignal | undefined } = {}): Promise<T> {
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const init: RequestInit = { method, signal: signal ? AbortSignal.any([signal, timeout]) : timeout };
    if (body !== undefined) Object.assign(init, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
    try {
      const response = await this.send(path, init);
      return (await response.json()) as T;
    } catch (cause) {
      throw asLiverankError(cause, `${method} ${path}`);
    }
  }

  /** Posts until the request is acknowledged or refused, or until `timeoutMs` have passed. */
  async post<T>(path: string, body: unknown, { signal, timeoutMs = POST_TIMEOUT_MS, onRetry = () => {} }: PostOptions = {}): Promise<T> {
    const deadline = Date.now() + timeoutMs;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.json<T>(path, { method: 'POST', body, signal });
      } catch (cause) {
        const error = asLiverankError(cause, `POST ${path}`);
        const pause = (error.retryAfterMs ?? 0) + backoffDelay(attempt, { random: this.#random });
        if (signal?.aborted || !error.retryable || Date.now() + pause > deadline) throw error;
        onRetry({ error, retryAt: Date.now() + pause });
        await sleep(pause, signal);
      }
    }
  }
}

/** Returns the query string `?a=1&b=2`, or an empty string without values. */
export function query(values: Query): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.length === 0 ? '' : `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer);
      reject(new LiverankError('given up', { cause: signal?.reason }));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, ms);
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
  });
}
