import type { LiverankError, NumberedComment, StreamState, StreamStatus } from '@liverank/client';
import { useCallback, useEffect, useReducer, useRef, useState } from 'react';
import { useLiverank } from './context.js';
import { followComments, type Following } from './follow.js';
import { after, inOrder, nothing } from './shown.js';

/** Options of {@link useComments}. */
export interface UseCommentsOptions {
  /** Who watches. */
  userid: string;
  /** How many comments of before are read first, and with each `loadOlder`; 50 by default. */
  history?: number;
  /** How many live comments are kept; 500 by default. Older ones that were asked for are kept besides. */
  keep?: number;
  /** Whether to count who watches; not by default. */
  countViewers?: boolean;
}

/** A video's comments as they are now. */
export interface Comments {
  /** Oldest first, each once, without those that were removed. */
  comments: NumberedComment[];
  /** The pinned comment; null where there is none. */
  pinned: NumberedComment | null;
  /** How many watch now, where that was asked for; null until it is known. */
  viewers: number | null;
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

const CONNECTING: StreamStatus = { state: 'connecting', attempt: 0, retryAt: null, error: null };

/** A video's comments: its history, then what comes, while the component is mounted. `null` as the video watches nothing. */
export function useComments(videoid: string | null, { userid, history = 50, keep = 500, countViewers = false }: UseCommentsOptions): Comments {
  const liverank = useLiverank();
  const [shown, dispatch] = useReducer(after, keep, nothing);
  const [status, setStatus] = useState(CONNECTING);
  const [failure, setFailure] = useState<LiverankError | null>(null);
  const [viewers, setViewers] = useState<number | null>(null);
  const following = useRef<Following | null>(null);

  useEffect(() => {
    dispatch({ type: 'clear', keep });
    setStatus(CONNECTING);
    setFailure(null);
    setViewers(null);
    if (videoid === null) return undefined;
    const listener = { onChange: dispatch, onStatus: setStatus, onFailure: setFailure, ...(countViewers && { onViewers: setViewers }) };
    const begun = followComments(liverank, { videoid, userid, history }, listener);
    following.current = begun;
    return () => {
      following.current = null;
      begun.close();
    };
  }, [liverank, videoid, userid, history, keep, countViewers]);

  const { older } = shown;
  const loadOlder = useCallback(async () => {
    if (older !== null) await following.current?.loadOlder(older);
  }, [older]);

  return {
    comments: inOrder(shown),
    pinned: shown.pin?.comment ?? null,
    viewers,
    state: status.state,
    error: status.error ?? failure,
    hasOlder: older !== null,
    loadOlder,
    retry: () => following.current?.retry(),
  };
}
