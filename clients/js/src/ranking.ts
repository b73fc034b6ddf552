import type { Ranked, RankedVideo, RankingMessage } from './types.js';

/** A ranked list and its version, the state to which messages of `mode=delta` are applied. */
export interface RankingState {
  version: number;
  videos: RankedVideo[];
}

/** Compares two strings by the bytes of their UTF-8 form, as the server does; `<` on strings compares UTF-16 instead. */
export function compareUtf8(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i += 1) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // Surrogates (U+10000 and up) sort below U+E000…U+FFFF in UTF-16 and above them in UTF-8.
    const xHigh = x >= 0xd800 && x <= 0xdfff;
    const yHigh = y >= 0xd800 && y <= 0xdfff;
    return xHigh === yHigh ? x - y : xHigh ? 1 : -1;
  }
  return a.length - b.length;
}

/** Compares two videos in the order of a ranked list: score descending, ties by the id's bytes descending. */
export function compareRanked(a: Ranked, b: Ranked): number {
  return b.score - a.score || compareUtf8(b.video_id, a.video_id);
}

/**
 * Applies one message of `/ws/videos?mode=delta`. Neither the state nor its list is changed. Returns the next state, or
 * null when the delta is based on another version: then only a new snapshot helps. A message of an unknown type changes
 * nothing. A line that comes without metadata keeps those that it had.
 */
export function applyRankingMessage(state: RankingState | null, message: RankingMessage): RankingState | null {
  if (message.type === 'snapshot') return { version: message.version, videos: message.videos };
  if (message.type !== 'delta') return state;
  if (!state || message.base !== state.version) return null;
  const videos = new Map(state.videos.map((video) => [video.video_id, video]));
  for (const id of message.remove ?? []) videos.delete(id);
  for (const video of message.set ?? []) videos.set(video.video_id, { ...videos.get(video.video_id), ...video });
  return { version: message.version, videos: [...videos.values()].sort(compareRanked) };
}
