import type { Board, LiverankError, Ranked, StreamState, StreamStatus } from '@liverank/client';
import { useEffect, useRef, useState } from 'react';
import { useLiverank } from './context.js';

/** Options of {@link useRanking}. */
export interface UseRankingOptions {
  /** `global` by default. */
  board?: Board;
  /** How many videos at most; 100 by default. */
  limit?: number;
}

/** A ranked list as it is now. */
export interface RankedList {
  /** Best first; empty before the first list. */
  videos: Ranked[];
  /** Whether a list has come yet. */
  loaded: boolean;
  state: StreamState;
  /** Why the stream waits or has failed; null while it is live. */
  error: LiverankError | null;
  /** Tries again at once, where it waits or has failed. */
  retry: () => void;
}

const CONNECTING: StreamStatus = { state: 'connecting', attempt: 0, retryAt: null, error: null };

/** A ranked list, kept up to date while the component is mounted. */
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
