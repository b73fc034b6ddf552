import type { NumberedComment } from '@liverank/client';
import { useComments, usePostComment } from '@liverank/react';
import { useLayoutEffect, useRef, useState, type FormEvent } from 'react';
import { AskDialog } from './AskDialog';
import { CommentLine, deedsOf, type Deed } from './CommentLine';
import type { Show } from './shows';
import { useModeration } from './useModeration';
import type { Viewer } from './viewer';

/** The show's comments, newest at the bottom, what can be done about them, and a box to write one. */
export function Chat({ show, viewer }: { show: Show; viewer: Viewer }) {
  const { comments, pinned, viewers, state, error, hasOlder, loadOlder, retry } = useComments(show.id, { userid: viewer.name, countViewers: true });
  const { post, pending, error: refused } = usePostComment();
  const { outcome, begin, question, answer, close } = useModeration(viewer);
  const [text, setText] = useState('');
  const [waits, setWaits] = useState(false);
  const [replyTo, setReplyTo] = useState<NumberedComment | null>(null);
  const box = useRef<HTMLInputElement>(null);
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
    const draft = { userid: viewer.name, videoid: show.id, comment: text, ...(replyTo && { replyTo: replyTo.id }) };
    setText('');
    setReplyTo(null);
    const posted = await post(draft);
    setWaits(posted?.held === true);
    if (!posted) setText((now) => now || draft.comment);
  };

  const act = (deed: Deed, comment: NumberedComment) => {
    if (deed !== 'reply') return begin(deed, comment);
    setReplyTo(comment);
    box.current?.focus();
  };

  return (
    <section className="chat" aria-labelledby="chat">
      <h2>
        <span id="chat">Live chat</span> {viewers !== null && <small className="muted">{viewers} watching</small>}
      </h2>
      {pinned && (
        <div className="pinned" role="note" aria-label="Pinned comment">
          <CommentLine comment={pinned} deeds={viewer.moderates ? ['unpin'] : []} onDeed={(deed) => act(deed, pinned)} />
        </div>
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
            <CommentLine
              comment={comment}
              repliesTo={comments.find(({ id }) => id === comment.reply_to)}
              deeds={deedsOf(viewer, comment, comment.id === pinned?.id)}
              onDeed={(deed) => act(deed, comment)}
            />
          </li>
        ))}
        {comments.length === 0 && state === 'live' && <li className="muted">Nobody has written yet.</li>}
      </ol>
      {state !== 'live' && (
        <p className="problem" role="status">
          {error ? error.message : 'Connecting…'} {(state === 'waiting' || state === 'failed') && <button onClick={retry}>Try again</button>}
        </p>
      )}
      {replyTo && (
        <p className="note">
          You reply to {replyTo.userid}. <button onClick={() => setReplyTo(null)}>Do not reply</button>
        </p>
      )}
      <form onSubmit={(event) => void submit(event)}>
        <input ref={box} value={text} onChange={(event) => setText(event.target.value)} maxLength={4096} placeholder="Say something" aria-label="Your comment" />
        <button disabled={text.trim() === ''}>{pending > 0 ? 'Sending…' : 'Send'}</button>
      </form>
      {waits && (
        <p className="note" role="status">
          Your comment waits for a moderator.
        </p>
      )}
      {refused && <p className="problem">{refused.message}</p>}
      {outcome && (
        <p className={outcome.bad ? 'problem' : 'note'} role="status">
          {outcome.text}
        </p>
      )}
      {question && <AskDialog question={question} onAnswer={answer} onClose={close} />}
    </section>
  );
}
