import type { NumberedComment } from '@liverank/client';
import type { Viewer } from './viewer';

/** What can be done about a comment. */
export type Deed = 'report' | 'delete' | 'pin' | 'unpin' | 'ban';

const WORDS: Record<Deed, string> = { report: 'Report', delete: 'Delete', pin: 'Pin', unpin: 'Unpin', ban: 'Ban' };

/** What this viewer may do about a comment. */
export function deedsOf(viewer: Viewer, comment: NumberedComment, pinned: boolean): Deed[] {
  const own = comment.userid === viewer.name;
  if (viewer.moderates) return [pinned ? 'unpin' : 'pin', 'delete', ...(own ? [] : (['ban'] as const))];
  if (own) return viewer.signedIn ? ['delete'] : [];
  return ['report'];
}

/** A comment, with a button for each thing that can be done about it. */
export function CommentLine({ comment, deeds, onDeed }: { comment: NumberedComment; deeds: Deed[]; onDeed: (deed: Deed) => void }) {
  return (
    <>
      <b style={{ color: colour(comment.userid) }}>{comment.userid}</b> <span className="text">{comment.comment}</span>{' '}
      <span className="tools">
        {deeds.map((deed) => (
          <button key={deed} type="button" aria-label={`${WORDS[deed]} ${deed === 'ban' ? '' : 'the comment of '}${comment.userid}`} onClick={() => onDeed(deed)}>
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
