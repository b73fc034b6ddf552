import type { Acknowledged, Draft, Interaction, LiverankError, PostedComment } from '@liverank/client';
import { useCallback, useRef, useState } from 'react';
import { useLiverank } from './context.js';

/** The state of requests that are sent until they are acknowledged or refused. */
export interface Post {
  /** The number of requests that are not answered yet. */
  pending: number;
  /** The reason why the last request was refused; null after one that was accepted. */
  error: LiverankError | null;
}

/** The result of {@link usePostComment}. */
export interface PostComment extends Post {
  /** Resolves to the stored comment, with `held` where it waits for a moderator, or to null where it was refused: `error` says why. */
  post: (draft: Draft) => Promise<PostedComment | null>;
}

/** The result of {@link useInteract}. */
export interface Interact extends Post {
  /** Sends an interaction. Resolves to its acknowledgement, or to null if it was refused: `error` says why. */
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

/** Returns a function that posts comments, with the state of its requests. */
export function usePostComment(): PostComment {
  const liverank = useLiverank();
  const { send, ...post } = useSender((draft: Draft) => liverank.postComment(draft));
  return { ...post, post: send };
}

/** Returns a function that sends interactions, with the state of its requests. */
export function useInteract(): Interact {
  const liverank = useLiverank();
  const { send, ...post } = useSender((event: Interaction) => liverank.interact(event));
  return { ...post, interact: send };
}
