import { useComments, usePostComment } from '@liverank/react';
import { useLayoutEffect, useRef, useState, type FormEvent } from 'react';
import type { Show } from './shows';

/** The show's comments, newest at the bottom, and a box to write one. */
export function Chat({ show, user }: { show: Show; user: string }) {
  const { comments, pinned, state, error, hasOlder, loadOlder, retry } = useComments(show.id, { userid: user });
  const { post, pending, error: refused } = usePostComment();
  const [text, setText] = useState('');
  const [waits, setWaits] = useState(false);
  const list = useRef<HTMLOListElement>(null);
  const newest = comments.at(-1)?.seq;

  // Follows the newest comment, unless its reader has scrolled up.
  useLayoutEffect(() => {
    const element = list.current;
    if (element && element.scrollHeight - element.scrollTop - element.clientHeight < 160) element.scrollTop = element.scrollHeight;
  }, [newest]);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (text.trim() === '') return;
    const draft = { userid: user, videoid: show.id, comment: text };
    setText('');
    const posted = await post(draft);
    setWaits(posted?.held === true);
    if (!posted) setText((now) => now || draft.comment);
  };

  return (
    <section className="chat" aria-labelledby="chat">
      <h2 id="chat">Live chat</h2>
      {pinned && (
        <p className="pinned" role="note" aria-label="Pinned comment">
          <b style={{ color: colour(pinned.userid) }}>{pinned.userid}</b> <span>{pinned.comment}</span>
        </p>
      )}
      <ol ref={list} tabIndex={0} aria-label="Comments">
        {hasOlder && (
          <li>
            <button className="older" onClick={() => void loadOlder()}>
              Older comments
            </button>
          </li>
        )}
        {comments.map((comment) => (
          <li key={comment.seq}>
            <b style={{ color: colour(comment.userid) }}>{comment.userid}</b> <span>{comment.comment}</span>
          </li>
        ))}
        {comments.length === 0 && state === 'live' && <li className="muted">Nobody has written yet.</li>}
      </ol>
      {state !== 'live' && (
        <p className="problem" role="status">
          {error ? error.message : 'Connecting…'} {(state === 'waiting' || state === 'failed') && <button onClick={retry}>Try again</button>}
        </p>
      )}
      <form onSubmit={(event) => void submit(event)}>
        <input value={text} onChange={(event) => setText(event.target.value)} maxLength={4096} placeholder="Say something" aria-label="Your comment" />
        <button disabled={text.trim() === ''}>{pending > 0 ? 'Sending…' : 'Send'}</button>
      </form>
      {waits && (
        <p className="note" role="status">
          Your comment waits for a moderator.
        </p>
      )}
      {refused && <p className="problem">{refused.message}</p>}
    </section>
  );
}

/** A colour that stays with a name. */
function colour(name: string): string {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)!) % 3_600;
  return `hsl(${sum % 360} 75% 72%)`;
}
