/** The comments that wait for a moderator, and what a moderator decides. */

import { element, moment } from './console-format.js';
import { PagedDialog } from './console-paged.js';

const PAGE = 50;
const DECISIONS = [
  { outcome: 'release', word: 'Release', done: 'The comment is released.' },
  { outcome: 'reject', word: 'Reject', done: 'The comment is rejected.' },
];
/** Why a comment waits, by its rule. */
const RULES = {
  words: 'words in it',
  links: 'a link in it',
  patterns: 'a pattern in it',
  hold_all: 'all comments wait there',
  hook: 'the hook wants it',
};

export class Held {
  #liverank;
  #dialog;
  #onDone;

  /** `onDone(text)` is told what was done. */
  constructor(liverank, { onDone }) {
    this.#liverank = liverank;
    this.#onDone = onDone;
    this.#dialog = new PagedDialog('held', {
      none: 'No comment waits.',
      read: async (after) => {
        const { comments, next } = await liverank.held({ after, limit: PAGE });
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
    const decisions = element('span', 'decisions');
    decisions.append(...DECISIONS.map((decision) => this.#button(comment, decision, item)));
    const why = `${moment(comment.timestamp)}, waits for: ${RULES[comment.rule] ?? comment.rule}`;
    item.append(element('b', '', `${comment.userid} on ${comment.videoid}`), element('q', '', comment.comment), element('small', '', why), decisions);
    return item;
  }

  #button({ videoid, id, userid }, { outcome, word, done }, item) {
    const button = Object.assign(element('button', 'quiet', word), { type: 'button', ariaLabel: `${word} the comment of ${userid}` });
    button.addEventListener('click', async () => {
      const buttons = [...item.querySelectorAll('button')];
      for (const other of buttons) other.disabled = true;
      try {
        await this.#liverank.reviewHeld({ videoid, id, outcome });
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
