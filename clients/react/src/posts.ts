import type { Acknowledged, Draft, Interaction, LiverankError, PostedComment } from '@liverank/client';
import { useCallback, useRef, useState } from 'react';
import { useLiverank } from './context.js';

/** Something that is sent until it is acknowledged or refused. */
export interface Post {
  /** How many are on their way. */
  pending: number;
  /** Why the last one was not taken; null after one that was. */
  error: LiverankError | null;
}

/** What {@link usePostComment} gives. */
export interface PostComment extends Post {
  /** Resolves to the stored comment, with `held` where it waits for a moderator, or to null where it was refused: `error` says why. */
  post: (draft: Draft) => Promise<PostedComment | null>;
}

/** What {@link useInteract} gives. */
export interface Interact extends Post {
  /** Resolves to its acknowledgement, or to null where it was refused: `error` says why. */
  interact: (event: Interaction) => Promise<Acknowledged | null>;
}

function useSender<Sent, Answer>(send: (sent: Sent) => Promise<Answer>): Post & { send: (sent: Sent) => Promise<Answer | null> } {
  const [post, setPost] = useState<Post>({ pending: 0, error: null });
  const latest = useRef(send);
  latest.current = send;
  const stable = useCallback(async (sent: Sent) => {
    setPost((now) => ({ ...now, pending: now.pending + 1 }));
    try {
      const answer = await latest.current(sent);
      setPost((now) => ({ pending: now.pending - 1, error: null }));
      return answer;
    } catch (error) {
      setPost((now) => ({ pending: now.pending - 1, error: error as LiverankError }));
      return null;
    }
  }, []);
  return { ...post, send: stable };
}

/** Posts comments. */
export function usePostComment(): PostComment {
  const liverank = useLiverank();
  const { send, ...post } = useSender((draft: Draft) => liverank.postComment(draft));
  return { ...post, post: send };
}

/** Sends interactions. */
export function useInteract(): Interact {
  const liverank = useLiverank();
  const { send, ...post } = useSender((event: Interaction) => liverank.interact(event));
  return { ...post, interact: send };
}
