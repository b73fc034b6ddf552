import { REQUEST_TIMEOUT_MS } from './connection.js';
import { LiverankError, answerError, asLiverankError, backoffDelay } from './error.js';

/** How long a post is repeated before the caller is told, in ms. */
const POST_TIMEOUT_MS = 60_000;

/** A token, or a function that gets one; it is asked again when the server refuses the one it gave. */
export type TokenSource = string | (() => string | null | undefined | Promise<string | null | undefined>);

/** Options of calls that write. */
export interface PostOptions {
  signal?: AbortSignal;
  /** How long to repeat while there is no answer that is final, in ms; 60,000 by default. */
  timeoutMs?: number;
  /** Called before each pause. `retryAt` is in ms since the epoch. */
  onRetry?: (why: { error: LiverankError; retryAt: number }) => void;
}

/** Query parameters; those that are empty are left out. */
export type Query = Record<string, string | number | boolean | null | undefined>;

/** Requests to one origin, with a token where there is one. */
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

  /** The token in force; null where there is none. Asked for once, however many callers wait. */
  token(): Promise<string | null> {
    if (this.#held) return this.#held;
    const asked = this.#ask();
    this.#held = asked;
    // A failure is not kept: the next request asks again.
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

  /** Has the next request ask for a token again. */
  forgetToken(): void {
    this.#held = null;
  }

  /**
   * One request. Where the token is refused, it is renewed once and the request repeated. Rejects with the answer's error
   * where its status is bad; `accept` names a status that is good all the same.
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
      // Somebody else may have renewed it meanwhile.
      if (this.#held === held) this.#held = null;
    }
  }

  /** A request that is answered in JSON within a bounded time. */
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

  /** Posts until it is acknowledged or refused, or until `timeoutMs` have passed. */
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

/** `?a=1&b=2`, or nothing. */
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
