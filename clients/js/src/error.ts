import type { components } from './schema.js';

/** An error body as the server sends it (RFC 9457). */
export type Problem = components['schemas']['Problem'];

/** First and longest pause between two attempts, in ms. The longest one is short enough for a person who waits. */
const BACKOFF = { baseMs: 500, capMs: 10_000 };
/** A server may ask for a longer pause (`Retry-After`, `retry:`), but not for one that looks like a hang, in ms. */
export const LONGEST_REQUESTED_PAUSE_MS = 60_000;

/** Details of a {@link LiverankError}. */
export interface LiverankErrorDetails {
  status?: number;
  problem?: Problem | null;
  retryAfterMs?: number | null;
  cause?: unknown;
}

/** The error with which a request or a stream fails. */
export class LiverankError extends Error {
  /** The HTTP status; 0 if no answer came. */
  readonly status: number;
  /** The body of the error, if the server sent one. `problem.field` names the field that is wrong. */
  readonly problem: Problem | null;
  /** The wait that the server asks for, in ms; null if it asks for none. */
  readonly retryAfterMs: number | null;

  constructor(message: string, { status = 0, problem = null, retryAfterMs = null, cause }: LiverankErrorDetails = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'LiverankError';
    this.status = status;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }

  /**
   * Whether the same request may succeed later. A request with a final answer (400, 401, 403, 404 …) is not repeated.
   */
  get retryable(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 425 || this.status === 429 || this.status >= 500;
  }
}

/** Returns any failure as a {@link LiverankError}, whose message begins with `doing`. */
export function asLiverankError(failure: unknown, doing: string): LiverankError {
  if (failure instanceof LiverankError) return failure;
  const reason = failure instanceof Error ? failure.message : String(failure);
  return new LiverankError(`${doing}: ${reason}`, { cause: failure });
}

/** Reads the body of an answer with a bad status and returns the error that it means. */
export async function answerError(response: Response): Promise<LiverankError> {
  const problem = (await response.json().catch(() => null)) as Problem | null;
  const said = problem?.detail ?? problem?.error ?? problem?.title ?? response.statusText;
  return new LiverankError(`${response.status} ${said}`.trim(), {
    status: response.status,
    problem,
    retryAfterMs: retryAfterMs(response.headers.get('retry-after')),
  });
}

/** Options of {@link backoffDelay}. */
export interface BackoffOptions {
  baseMs?: number;
  capMs?: number;
  random?: () => number;
}

/** The pause before attempt number `attempt` (0 is the first repeat), in ms: exponential, capped, full jitter. */
export function backoffDelay(attempt: number, { baseMs = BACKOFF.baseMs, capMs = BACKOFF.capMs, random = Math.random }: BackoffOptions = {}): number {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(random() * ceiling);
}

/** A `Retry-After` header (seconds or a date) in ms from `nowMs`, at most a minute; null when absent or unreadable. */
export function retryAfterMs(header: string | null | undefined, nowMs: number = Date.now()): number | null {
  if (!header) return null;
  const wait = /^\s*\d+\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - nowMs;
  return Number.isNaN(wait) ? null : Math.min(Math.max(wait, 0), LONGEST_REQUESTED_PAUSE_MS);
}
