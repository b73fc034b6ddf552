import type { Liverank, LiverankError, NumberedComment, StreamStatus } from '@liverank/client';
import type { Change, Page } from './shown.js';

/** Whose comments are followed, and by whom. */
export interface Followed {
  videoid: string;
  /** Who watches. */
  userid: string;
  /** How many comments a page of the history has. */
  history: number;
}

/** Who hears of it. */
export interface Listener {
  onChange: (change: Change) => void;
  onStatus: (status: StreamStatus) => void;
  /** Why something could not be read; null once it could. */
  onFailure: (error: LiverankError | null) => void;
  /** How many watch; they are counted where somebody listens. */
  onViewers?: (viewers: number) => void;
}

/** A video that is followed. */
export interface Following {
  /** Reads the page before this number. */
  loadOlder: (before: number) => Promise<void>;
  retry: () => void;
  close: () => void;
}

/** A gap of more pages than this stays one: the comments around it are shown. */
const GAP_PAGES = 10;

/** Follows a video: its history, then what comes, what is removed and what is pinned, until it is closed. */
export function followComments(liverank: Liverank, { videoid, userid, history }: Followed, { onChange, onStatus, onFailure, onViewers }: Listener): Following {
  const abort = new AbortController();
  const { signal } = abort;
  let loaded = false;
  /** The highest number that was heard of. */
  let newest = 0;
  /** Pins that the stream told of: what a page says of pins holds only if there was none since it was asked for. */
  let pins = 0;

  const said = (error: unknown): void => {
    if (!signal.aborted) onFailure(error as LiverankError);
  };
  const read = async (before: number | null, reason: Page['for']): Promise<{ next: number | null; lowest: number }> => {
    const upTo = before === null ? newest : before - 1;
    const pinsBefore = pins;
    const { comments, next, pinned } = await liverank.history(videoid, { before, limit: history, userid, signal });
    if (signal.aborted) return { next: null, lowest: 0 };
    newest = Math.max(newest, ...comments.map(({ seq }) => seq));
    const says = before === null && pins === pinsBefore;
    onChange({ type: 'page', page: { comments, next, upTo, for: reason, pinned: says ? (pinned ?? null) : undefined } });
    return { next, lowest: Math.min(...comments.map(({ seq }) => seq)) };
  };
  // The viewer's place is fixed once it is connected: history that is read from then on leaves no hole before what comes.
  const load = async (): Promise<void> => {
    if (loaded) return;
    loaded = true;
    try {
      await read(null, 'start');
      onFailure(null);
    } catch (error) {
      loaded = false;
      said(error);
    }
  };
  // What came meanwhile, and what was removed or pinned meanwhile.
  const fill = async (from: number): Promise<void> => {
    let before: number | null = null;
    for (let pages = 0; pages < GAP_PAGES; pages += 1) {
      const { next, lowest }: { next: number | null; lowest: number } = await read(before, 'gap');
      before = next;
      if (before === null || lowest <= from) return;
    }
  };
  const find = async (id: string): Promise<void> => {
    const { comments } = await liverank.history(videoid, { around: id, limit: 1, userid, signal });
    const found = comments.find((comment) => comment.id === id);
    if (found && !signal.aborted) onChange({ type: 'found', comment: found });
  };
  const stream = liverank.comments(videoid, {
    userid,
    onConnected: () => void load(),
    onComment: (comment: NumberedComment) => {
      newest = Math.max(newest, comment.seq);
      onChange({ type: 'comment', comment });
    },
    onDeleted: ({ id }) => onChange({ type: 'deleted', id }),
    onPinned: ({ id }) => {
      pins += 1;
      onChange({ type: 'pinned', id });
      // One that was removed since is not found, and the stream says so.
      if (id !== null) void find(id).catch(() => {});
    },
    ...(onViewers && { onViewers }),
    onGap: ({ from }) => void fill(from).catch(said),
    onState: (now) => now.state !== 'closed' && onStatus(now),
  });
  return {
    loadOlder: async (before) => {
      try {
        await read(before, 'older');
        if (!signal.aborted) onFailure(null);
      } catch (error) {
        said(error);
      }
    },
    retry: () => stream.retryNow(),
    close: () => {
      abort.abort();
      stream.close();
    },
  };
}
