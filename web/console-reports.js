/** The queue of comments that viewers reported, and what a moderator decides. */

import { element } from './console-format.js';

const part = (id) => document.getElementById(id);
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
  #next = null;
  #onDone;

  /** `onDone(text)` is told what was done. */
  constructor(liverank, { onDone }) {
    this.#liverank = liverank;
    this.#onDone = onDone;
    part('show-reports').addEventListener('click', () => this.#open());
    part('reports-close').addEventListener('click', () => part('reports-dialog').close());
    part('reports-more').addEventListener('click', () => this.#page());
  }

  /** Shows what moderators have, or hides it. */
  offer(moderates) {
    part('show-reports').hidden = !moderates;
  }

  #open() {
    part('reports-list').replaceChildren();
    this.#next = null;
    part('reports-dialog').showModal();
    this.#page();
  }

  async #page() {
    part('reports-note').textContent = 'Loading…';
    try {
      const { comments, next } = await this.#liverank.reports({ after: this.#next ?? undefined, limit: PAGE });
      this.#next = next;
      part('reports-list').append(...comments.map((comment) => this.#line(comment)));
      part('reports-more').hidden = next === null;
      this.#left();
    } catch (error) {
      part('reports-note').textContent = `They could not be read: ${error.message}`;
    }
  }

  #left() {
    part('reports-note').textContent = part('reports-list').childElementCount === 0 ? 'No comment waits for a decision.' : '';
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
        item.remove();
        this.#onDone(done);
        this.#left();
        part('reports-close').focus();
      } catch (error) {
        for (const other of buttons) other.disabled = false;
        part('reports-note').textContent = `It was not done: ${error.message}`;
      }
    });
    return button;
  }
}
