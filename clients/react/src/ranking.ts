import type { Board, LiverankError, RankedVideo, StreamState, StreamStatus } from '@liverank/client';
import { useEffect, useRef, useState } from 'react';
import { useLiverank } from './context.js';

/** Options of {@link useRanking}. */
export interface UseRankingOptions {
  /** The board; `global` by default. */
  board?: Board;
  /** The greatest number of videos in the list; 100 by default. */
  limit?: number;
  /** What else each line is to have: `metadata` is what apps say of a video. */
  fields?: 'metadata'[];
  /** `delta` (the default): changes travel; `list`: whole lists do. */
  mode?: 'delta' | 'list';
}

/** A ranked list in its current state. */
export interface RankedList {
  /** Best first; empty before the first list. */
  videos: RankedVideo[];
  /** Whether a list has come yet. */
  loaded: boolean;
  state: StreamState;
  /** The reason why the stream waits or has failed; null while it is live. */
  error: LiverankError | null;
  /** Tries again at once if the stream is waiting or has failed. */
  retry: () => void;
}

const CONNECTING: StreamStatus = { state: 'connecting', attempt: 0, retryAt: null, error: null };

/** A ranked list, kept up to date while the component is mounted. */
export function useRanking({ board, limit = 100, fields, mode }: UseRankingOptions = {}): RankedList {
  const liverank = useLiverank();
  const [videos, setVideos] = useState<RankedVideo[] | null>(null);
  const [status, setStatus] = useState(CONNECTING);
  const retry = useRef(() => {});
  // A new array with the same names in it is no other list.
  const named = fields?.join();
  useEffect(() => {
    setVideos(null);
    setStatus(CONNECTING);
    const asked = { board, limit, fields: named ? (named.split(',') as 'metadata'[]) : undefined, ...(mode && { mode }) };
    const stream = liverank.ranking({ ...asked, onList: setVideos, onState: (now) => now.state !== 'closed' && setStatus(now) });
    retry.current = () => stream.retryNow();
    return () => stream.close();
  }, [liverank, board, limit, named, mode]);
  return { videos: videos ?? [], loaded: videos !== null, state: status.state, error: status.error, retry: () => retry.current() };
}
