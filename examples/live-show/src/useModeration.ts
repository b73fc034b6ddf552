import type { LiverankError, NumberedComment, ReportReason } from '@liverank/client';
import { useLiverank } from '@liverank/react';
import { useState } from 'react';
import type { Question } from './AskDialog';
import type { Deed } from './CommentLine';
import type { Viewer } from './viewer';

/** What a viewer or a moderator does about a comment; a reply is a comment of its own. */
type Action = Exclude<Deed, 'reply'>;

/** What is asked before it is done. */
const QUESTIONS: Partial<Record<Action, (comment: NumberedComment) => Question>> = {
  report: ({ userid }) => ({
    title: `Report the comment of ${userid}`,
    choice: 'What is wrong',
    options: REASONS,
    words: 'In your words',
    go: 'Report',
  }),
  ban: ({ userid }) => ({
    title: `Ban ${userid} from this chat`,
    choice: 'For',
    options: [['600', '10 minutes'], ['86400', 'a day'], ['', 'good']],
    words: 'Why, for the audit log',
    go: 'Ban',
  }),
};
const REASONS: readonly (readonly [ReportReason, string])[] = [
  ['spam', 'Spam'],
  ['harassment', 'Harassment'],
  ['hate', 'Hate'],
  ['violence', 'Violence'],
  ['sexual', 'Sexual'],
  ['self_harm', 'Self-harm'],
  ['other', 'Something else'],
];

/** What was done, or why it was not. */
export interface Outcome {
  text: string;
  bad: boolean;
}

/** Does what a viewer or a moderator does about comments. What it changes comes back by the stream. */
export function useModeration(viewer: Viewer) {
  const liverank = useLiverank();
  const [asking, setAsking] = useState<{ deed: Action; comment: NumberedComment } | null>(null);
  const [outcome, setOutcome] = useState<Outcome | null>(null);

  const run = async (deed: Action, comment: NumberedComment, choice = '', words = '') => {
    const { videoid, id, userid } = comment;
    const reason = words || undefined;
    const deeds: Record<Action, () => [Promise<unknown>, string]> = {
      report: () => [liverank.reportComment(videoid, id, { userid: viewer.name, reason: choice as ReportReason, text: reason }), 'Thank you. A moderator will look at it.'],
      delete: () => [liverank.deleteComment(videoid, id, { reason }), 'The comment is deleted.'],
      pin: () => [liverank.pinComment(videoid, id), 'The comment is pinned.'],
      unpin: () => [liverank.unpinComment(videoid), 'No comment is pinned.'],
      ban: () => [liverank.ban({ userid, videoid, seconds: choice ? Number(choice) : null, reason: reason ?? null }), `${userid} is banned from this chat.`],
    };
    const [done, text] = deeds[deed]();
    try {
      await done;
      setOutcome({ text, bad: false });
    } catch (error) {
      setOutcome({ text: (error as LiverankError).message, bad: true });
    }
  };

  return {
    outcome,
    /** Asks first, where there is something to ask. */
    begin: (deed: Action, comment: NumberedComment) => {
      setOutcome(null);
      if (QUESTIONS[deed]) setAsking({ deed, comment });
      else void run(deed, comment);
    },
    question: asking && QUESTIONS[asking.deed]!(asking.comment),
    answer: ({ choice, words }: { choice: string; words: string }) => {
      if (asking) void run(asking.deed, asking.comment, choice, words);
      setAsking(null);
    },
    close: () => setAsking(null),
  };
}
