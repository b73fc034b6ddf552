import type { Board, LiverankError, Ranked, StreamState, StreamStatus } from '@liverank/client';
import { useEffect, useRef, useState } from 'react';
import { useLiverank } from './context.js';

/** Options of {@link useRanking}. */
export interface UseRankingOptions {
  /** The board; `global` by default. */
  board?: Board;
  /** The greatest number of videos in the list; 100 by default. */
  limit?: number;
}

/** A ranked list in its current state. */
export interface RankedList {
  /** The videos, best first; empty before the first list. */
  videos: Ranked[];
  /** Whether a list has arrived. */
  loaded: boolean;
  state: StreamState;
  /** The reason why the stream waits or has failed; null while it is live. */
  error: LiverankError | null;
  /** Tries again at once if the stream is waiting or has failed. */
  retry: () => void;
}

const CONNECTING: StreamStatus = { state: 'connecting', attempt: 0, retryAt: null, error: null };

/** Returns a ranked list that is kept up to date while the component is mounted. */
export function useRanking({ board, limit = 100 }: UseRankingOptions = {}): RankedList {
  const liverank = useLiverank();
  const [videos, setVideos] = useState<Ranked[] | null>(null);
  const [status, setStatus] = useState(CONNECTING);
  const retry = useRef(() => {});
  useEffect(() => {
    setVideos(null);
    setStatus(CONNECTING);
    const stream = liverank.ranking({ board, limit, onList: setVideos, onState: (now) => now.state !== 'closed' && setStatus(now) });
    retry.current = () => stream.retryNow();
    return () => stream.close();
  }, [liverank, board, limit]);
  return { videos: videos ?? [], loaded: videos !== null, state: status.state, error: status.error, retry: () => retry.current() };
}
