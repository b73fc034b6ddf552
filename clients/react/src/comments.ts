import type { LiverankError, NumberedComment, StreamState, StreamStatus } from '@liverank/client';
import { useCallback, useEffect, useReducer, useRef, useState } from 'react';
import { useLiverank } from './context.js';

/** Options of {@link useComments}. */
export interface UseCommentsOptions {
  /** Who watches. */
  userid: string;
  /** How many comments of before are read first, and with each `loadOlder`; 50 by default. */
  history?: number;
  /** How many live comments are kept; 500 by default. Older ones that were asked for are kept besides. */
  keep?: number;
}

/** A video's comments as they are now. */
export interface Comments {
  /** Oldest first, each once. */
  comments: NumberedComment[];
  state: StreamState;
  /** Why the stream waits or has failed, or why history could not be read. */
  error: LiverankError | null;
  /** Whether there are older ones. */
  hasOlder: boolean;
  /** Reads the page before the oldest. */
  loadOlder: () => Promise<void>;
  /** Tries again at once, where the stream waits or has failed. */
  retry: () => void;
}

interface Held {
  bySeq: ReadonlyMap<number, NumberedComment>;
  kept: number;
}

type Action = { type: 'clear'; keep: number } | { type: 'live'; comment: NumberedComment } | { type: 'page'; comments: NumberedComment[]; older: boolean };

function reduce(held: Held, action: Action): Held {
  if (action.type === 'clear') return { bySeq: new Map(), kept: action.keep };
  const added = action.type === 'live' ? [action.comment] : action.comments;
  const bySeq = new Map(held.bySeq);
  for (const comment of added) bySeq.set(comment.seq, comment);
  const kept = action.type === 'page' && action.older ? held.kept + added.length : held.kept;
  if (bySeq.size > kept) {
    const order = [...bySeq.keys()].sort((a, b) => a - b);
    for (const seq of order.slice(0, bySeq.size - kept)) bySeq.delete(seq);
  }
  return { bySeq, kept };
}

const CONNECTING: StreamStatus = { state: 'connecting', attempt: 0, retryAt: null, error: null };
/** A gap of more pages than this stays one: the comments around it are shown. */
const GAP_PAGES = 10;

/** A video's comments: its history, then what comes, while the component is mounted. `null` as the video watches nothing. */
export function useComments(videoid: string | null, { userid, history = 50, keep = 500 }: UseCommentsOptions): Comments {
  const liverank = useLiverank();
  const [held, dispatch] = useReducer(reduce, { bySeq: new Map<number, NumberedComment>(), kept: keep });
  const [status, setStatus] = useState(CONNECTING);
  const [older, setOlder] = useState<number | null>(null);
  const [failure, setFailure] = useState<LiverankError | null>(null);
  const retry = useRef(() => {});
  const watched = useRef<string | null>(null);

  useEffect(() => {
    dispatch({ type: 'clear', keep });
    setStatus(CONNECTING);
    setOlder(null);
    setFailure(null);
    watched.current = videoid;
    if (videoid === null) return undefined;
    const abort = new AbortController();
    const { signal } = abort;
    let loaded = false;
    const said = (error: unknown): void => {
      if (!signal.aborted) setFailure(error as LiverankError);
    };
    // The viewer's place is fixed once it is connected: history that is read from then on leaves no hole before what comes.
    const load = async (): Promise<void> => {
      if (loaded) return;
      loaded = true;
      try {
        const page = await liverank.history(videoid, { limit: history, signal });
        dispatch({ type: 'page', comments: page.comments, older: false });
        setOlder(page.next);
        setFailure(null);
      } catch (error) {
        loaded = false;
        said(error);
      }
    };
    const fill = async (from: number): Promise<void> => {
      let before: number | null = null;
      for (let pages = 0; pages < GAP_PAGES; pages += 1) {
        const page: { comments: NumberedComment[]; next: number | null } = await liverank.history(videoid, { before, limit: history, signal });
        dispatch({ type: 'page', comments: page.comments, older: false });
        before = page.next;
        if (before === null || page.comments.some((comment) => comment.seq <= from)) return;
      }
    };
    const stream = liverank.comments(videoid, {
      userid,
      onConnected: () => void load(),
      onComment: (comment) => dispatch({ type: 'live', comment }),
      onGap: ({ from }) => void fill(from).catch(said),
      onState: (now) => now.state !== 'closed' && setStatus(now),
    });
    retry.current = () => stream.retryNow();
    return () => {
      abort.abort();
      stream.close();
    };
  }, [liverank, videoid, userid, history, keep]);

  const loadOlder = useCallback(async () => {
    if (videoid === null || older === null) return;
    const page = await liverank.history(videoid, { before: older, limit: history });
    if (watched.current !== videoid) return;
    dispatch({ type: 'page', comments: page.comments, older: true });
    setOlder(page.next);
  }, [liverank, videoid, older, history]);

  const comments = [...held.bySeq.values()].sort((a, b) => a.seq - b.seq);
  return { comments, state: status.state, error: status.error ?? failure, hasOlder: older !== null, loadOlder, retry: () => retry.current() };
}
