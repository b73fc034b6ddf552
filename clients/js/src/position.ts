import type { SseEvent } from './sse.js';
import type { Connected, Deleted, Gap, NumberedComment, Pinned, ViewerCount } from './types.js';

/** The meaning of one event of a comment stream. */
export type CommentOutcome =
  | { connected: Connected }
  | { comment: NumberedComment }
  | { deleted: Deleted }
  | { pinned: Pinned }
  | { gap: Gap }
  | { viewers: number };

/**
 * A viewer's position in a video's comments. `take` returns what one event of the stream means, in order: repeated
 * comments are dropped, missing ones are reported as a gap.
 */
export class CommentPosition {
  /** The event id to resume from; empty before the first event. */
  lastEventId = '';
  #numbering: string | null = null;
  #seq = 0;

  constructor(lastEventId = '') {
    this.#moveTo(lastEventId);
  }

  /** Returns the meaning of an event and moves the position. Throws if the event's data are no JSON. */
  take({ type, data, id }: SseEvent): CommentOutcome[] {
    // An event without data is for a comment that was removed or not asked for.
    if (data === '') return this.#step(id, []);
    const body: unknown = JSON.parse(data);
    if (type === 'gap') {
      this.#moveTo(id);
      const { from, to } = body as Gap;
      return [{ gap: { from, to } }];
    }
    // This event has no id: it does not move the position.
    if (type === 'viewers') return [{ viewers: (body as ViewerCount).viewers }];
    if (type === 'deleted') return this.#step(id, [{ deleted: body as Deleted }]);
    if (type === 'pinned') return this.#step(id, [{ pinned: body as Pinned }]);
    if (type !== 'message') return [];
    if ((body as { type?: unknown }).type === 'connected') {
      // Once there is a position, only received comments move it: the greeting may name the head, ahead of what was
      // missed.
      if (this.#numbering === null) this.#moveTo(id);
      return [{ connected: body as Connected }];
    }
    return this.#step(id, [{ comment: body as NumberedComment }]);
  }

  #step(id: string, what: CommentOutcome[]): CommentOutcome[] {
    const at = parseEventId(id);
    const outcomes: CommentOutcome[] = [];
    if (at && at.numbering === this.#numbering) {
      if (at.seq <= this.#seq) return [];
      if (at.seq > this.#seq + 1) outcomes.push({ gap: { from: this.#seq + 1, to: at.seq - 1 } });
    }
    this.#moveTo(id);
    return [...outcomes, ...what];
  }

  #moveTo(id: string): void {
    const at = parseEventId(id);
    if (!at) return;
    this.#numbering = at.numbering;
    this.#seq = at.seq;
    this.lastEventId = id;
  }
}

/** Splits an event id `numbering-seq` into the comment epoch and the sequence number; null if it has another form. */
function parseEventId(id: string): { numbering: string; seq: number } | null {
  const parts = /^(.+)-(\d+)$/.exec(id);
  return parts ? { numbering: parts[1]!, seq: Number(parts[2]) } : null;
}
