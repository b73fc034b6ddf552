import type { NumberedComment } from '@liverank/client';
import type { Viewer } from './viewer';

/** What can be done about a comment. */
export type Deed = 'reply' | 'report' | 'delete' | 'pin' | 'unpin' | 'ban';

const WORDS: Record<Deed, string> = { reply: 'Reply', report: 'Report', delete: 'Delete', pin: 'Pin', unpin: 'Unpin', ban: 'Ban' };

/** What this viewer may do about a comment. */
export function deedsOf(viewer: Viewer, comment: NumberedComment, pinned: boolean): Deed[] {
  const own = comment.userid === viewer.name;
  if (viewer.moderates) return ['reply', pinned ? 'unpin' : 'pin', 'delete', ...(own ? [] : (['ban'] as const))];
  if (own) return viewer.signedIn ? ['reply', 'delete'] : ['reply'];
  return ['reply', 'report'];
}

interface CommentLineProps {
  comment: NumberedComment;
  /** The comment that this one replies to, where the page has it; it has none that was removed. */
  repliesTo?: NumberedComment | undefined;
  deeds: Deed[];
  onDeed: (deed: Deed) => void;
}

/** What a deed is called for a screen reader. */
function label(deed: Deed, user: string): string {
  if (deed === 'reply') return `Reply to ${user}`;
  return deed === 'ban' ? `Ban ${user}` : `${WORDS[deed]} the comment of ${user}`;
}

/** A comment, with what it replies to, and a button for each thing that can be done about it. */
export function CommentLine({ comment, repliesTo, deeds, onDeed }: CommentLineProps) {
  return (
    <>
      {comment.reply_to && <small className="quote">↩ {repliesTo ? `${repliesTo.userid}: ${repliesTo.comment}` : 'an earlier comment'}</small>}
      <b style={{ color: colour(comment.userid) }}>{comment.userid}</b> <span className="text">{comment.comment}</span>{' '}
      <span className="tools">
        {deeds.map((deed) => (
          <button key={deed} type="button" aria-label={label(deed, comment.userid)} onClick={() => onDeed(deed)}>
            {WORDS[deed]}
          </button>
        ))}
      </span>
    </>
  );
}

/** A colour that stays with a name. */
function colour(name: string): string {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)!) % 3_600;
  return `hsl(${sum % 360} 75% 72%)`;
}
