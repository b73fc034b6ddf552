import type { NumberedComment } from '@liverank/client';

/** What is known of a video's comments. */
export interface Shown {
  /** By number. */
  bySeq: ReadonlyMap<number, NumberedComment>;
  /** How many of them are kept. */
  kept: number;
  /** The `before` of the page of older ones; null where there are none. */
  older: number | null;
  /** Ids of comments that were removed, the latest last: a page that was read before does not bring one back. */
  removed: ReadonlySet<string>;
  /** The pinned comment; its text is null until it is known. */
  pin: { id: string; comment: NumberedComment | null } | null;
}

/** A page of the history. */
export interface Page {
  comments: NumberedComment[];
  next: number | null;
  /** The highest number that the page has, had it not been removed. A comment below that is not on the page is gone. */
  upTo: number;
  /** What is pinned; undefined where the page does not say so. */
  pinned?: NumberedComment | null | undefined;
  /** Whether it is kept besides those that are kept anyway, and where what is older begins. */
  for: 'start' | 'gap' | 'older';
}

/** What happens to them. */
export type Change =
  | { type: 'clear'; keep: number }
  | { type: 'comment'; comment: NumberedComment }
  | { type: 'page'; page: Page }
  | { type: 'deleted'; id: string }
  | { type: 'pinned'; id: string | null }
  | { type: 'found'; comment: NumberedComment };

/** A page is read within seconds: it holds no comment that so many others were removed after. */
const REMOVED_KEPT = 1_000;

/** Nothing yet. */
export function nothing(keep: number): Shown {
  return { bySeq: new Map(), kept: keep, older: null, removed: new Set(), pin: null };
}

/** What is known after a change. */
export function after(shown: Shown, change: Change): Shown {
  switch (change.type) {
    case 'clear':
      return nothing(change.keep);
    case 'comment':
      return trimmed(withComments(shown, [change.comment]));
    case 'page':
      return withPage(shown, change.page);
    case 'deleted':
      return without(shown, change.id);
    case 'pinned':
      return { ...shown, pin: pinOf(shown, change.id) };
    case 'found':
      return shown.pin?.id === change.comment.id ? { ...shown, pin: { id: change.comment.id, comment: change.comment } } : shown;
  }
}

/** Oldest first, each once. */
export function inOrder(shown: Shown): NumberedComment[] {
  return [...shown.bySeq.values()].sort((a, b) => a.seq - b.seq);
}

function withComments(shown: Shown, comments: readonly NumberedComment[]): Shown {
  const bySeq = new Map(shown.bySeq);
  for (const comment of comments) if (!shown.removed.has(comment.id)) bySeq.set(comment.seq, comment);
  return { ...shown, bySeq };
}

function withPage(shown: Shown, page: Page): Shown {
  // Asked for before those above it were left out again, or asked for twice.
  if (page.for === 'older' && shown.older !== page.upTo + 1) return shown;
  const lowest = page.next === null ? 0 : Math.min(...page.comments.map(({ seq }) => seq));
  const bySeq = new Map(shown.bySeq);
  for (const seq of shown.bySeq.keys()) if (seq >= lowest && seq <= page.upTo) bySeq.delete(seq);
  const kept = page.for === 'older' ? shown.kept + page.comments.length : shown.kept;
  const older = page.for === 'gap' ? shown.older : page.next;
  const filled = withComments({ ...shown, bySeq, kept, older }, page.comments);
  if (page.pinned === undefined) return trimmed(filled);
  const { pinned } = page;
  const pin = pinned && !shown.removed.has(pinned.id) ? { id: pinned.id, comment: pinned } : null;
  return trimmed({ ...filled, pin });
}

function without(shown: Shown, id: string): Shown {
  const bySeq = new Map([...shown.bySeq].filter(([, comment]) => comment.id !== id));
  const removed = new Set([...shown.removed, id].slice(-REMOVED_KEPT));
  return { ...shown, bySeq, removed, pin: shown.pin?.id === id ? null : shown.pin };
}

function pinOf(shown: Shown, id: string | null): Shown['pin'] {
  if (id === null || shown.removed.has(id)) return null;
  return { id, comment: [...shown.bySeq.values()].find((comment) => comment.id === id) ?? null };
}

/** Without the oldest ones above what is kept: those are history from then on. */
function trimmed(shown: Shown): Shown {
  if (shown.bySeq.size <= shown.kept) return shown;
  const kept = inOrder(shown).slice(-shown.kept);
  return { ...shown, bySeq: new Map(kept.map((comment) => [comment.seq, comment])), older: kept[0]?.seq ?? shown.older };
}
