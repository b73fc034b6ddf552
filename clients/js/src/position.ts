import type { SseEvent } from './sse.js';
import type { Connected, Deleted, Gap, NumberedComment, Pinned, ViewerCount } from './types.js';

/** What one event of a comment stream means. */
export type CommentOutcome =
  | { connected: Connected }
  | { comment: NumberedComment }
  | { deleted: Deleted }
  | { pinned: Pinned }
  | { gap: Gap }
  | { viewers: number };

/**
 * Where a viewer stands in a video's comments. `take` turns one event of the stream into what it means, in order: repeats
 * are dropped, holes are reported.
 */
export class CommentPosition {
  /** The id to resume from. Empty before the first event. */
  lastEventId = '';
  #numbering: string | null = null;
  #seq = 0;

  constructor(lastEventId = '') {
    this.#moveTo(lastEventId);
  }

  /** Throws where the event's data is no JSON. */
  take({ type, data, id }: SseEvent): CommentOutcome[] {
    // Something that was removed, or not asked for.
    if (data === '') return this.#step(id, []);
    const body: unknown = JSON.parse(data);
    if (type === 'gap') {
      this.#moveTo(id);
      const { from, to } = body as Gap;
      return [{ gap: { from, to } }];
    }
    // It has no id: it says nothing of where this viewer stands.
    if (type === 'viewers') return [{ viewers: (body as ViewerCount).viewers }];
    if (type === 'deleted') return this.#step(id, [{ deleted: body as Deleted }]);
    if (type === 'pinned') return this.#step(id, [{ pinned: body as Pinned }]);
    if (type !== 'message') return [];
    if ((body as { type?: unknown }).type === 'connected') {
      // Once there is a position, only what was received moves it: the greeting may name the head, ahead of what is missed.
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

/** An event id `numbering-seq` in its two parts, or null. */
function parseEventId(id: string): { numbering: string; seq: number } | null {
  const parts = /^(.+)-(\d+)$/.exec(id);
  return parts ? { numbering: parts[1]!, seq: Number(parts[2]) } : null;
}
