/** The queue of comments that viewers reported, and what a moderator decides. */

import { element } from './console-format.js';
import { PagedDialog } from './console-paged.js';

const PAGE = 50;
/** Reports of a comment whose words are shown: a comment has 25 at most. */
const SHOWN = 5;
const DECISIONS = [
  { outcome: 'dismiss', word: 'Dismiss', label: (comment) => `Dismiss the reports of the comment of ${comment.userid}`, done: 'The reports are dismissed.' },
  { outcome: 'delete', word: 'Delete', label: (comment) => `Delete the reported comment of ${comment.userid}`, done: 'The comment is deleted.' },
  { outcome: 'ban', word: 'Ban', label: (comment) => `Ban ${comment.userid} on ${comment.videoid}`, done: 'Its author is banned on this video.' },
];

export class Reports {
  #liverank;
  #dialog;
  #onDone;

  /** `onDone(text)` is told what was done. */
  constructor(liverank, { onDone }) {
    this.#liverank = liverank;
    this.#onDone = onDone;
    this.#dialog = new PagedDialog('reports', {
      none: 'No comment waits for a decision.',
      read: async (after) => {
        const { comments, next } = await liverank.reports({ after: after ?? undefined, limit: PAGE });
        return { lines: comments.map((comment) => this.#line(comment)), next };
      },
    });
  }

  /** Shows what moderators have, or hides it. */
  offer(moderates) {
    this.#dialog.offer(moderates);
  }

  #line(comment) {
    const item = element('li');
    const words = comment.reports.slice(0, SHOWN).map(({ userid, reason, text }) => `${reason} by ${userid ?? 'somebody'}${text ? `: ${text}` : ''}`);
    if (comment.reports.length > SHOWN) words.push(`and ${comment.reports.length - SHOWN} more`);
    const heading = `${comment.userid ?? 'Somebody'} on ${comment.videoid}, reported by ${comment.count}`;
    const decisions = element('span', 'decisions');
    // Nobody is there to be banned where the name was removed.
    const possible = DECISIONS.filter(({ outcome }) => outcome !== 'ban' || comment.userid !== null);
    decisions.append(...possible.map((decision) => this.#button(comment, decision, item)));
    item.append(element('b', '', heading), element('q', '', comment.comment ?? ''), element('small', '', words.join('; ')), decisions);
    return item;
  }

  #button(comment, { outcome, word, label, done }, item) {
    const button = Object.assign(element('button', 'quiet', word), { type: 'button', ariaLabel: label(comment) });
    button.addEventListener('click', async () => {
      const buttons = [...item.querySelectorAll('button')];
      for (const other of buttons) other.disabled = true;
      try {
        await this.#liverank.decideReports({ videoid: comment.videoid, id: comment.id, outcome });
        this.#dialog.remove(item);
        this.#onDone(done);
      } catch (error) {
        for (const other of buttons) other.disabled = false;
        this.#dialog.say(`It was not done: ${error.message}`);
      }
    });
    return button;
  }
}
