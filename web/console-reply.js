/** Replies: the line that says what a comment replies to, and the note above the box while one is written. */

import { element } from './console-format.js';

/** So many characters of the comment that is replied to are shown. */
const QUOTED = 80;

const part = (id) => document.getElementById(id);

export class Replies {
  #find;
  /** The comment that is replied to; null while none is. */
  #to = null;

  /** `find(id)` returns a comment that the page shows. */
  constructor(find) {
    this.#find = find;
    part('reply-end').addEventListener('click', () => this.#answer(null));
  }

  /** Another video is opened. */
  open() {
    this.#answer(null);
  }

  /** A button that has the box reply to a comment. */
  button(comment) {
    const button = Object.assign(element('button', 'quiet', 'Reply'), { type: 'button', ariaLabel: `Reply to ${comment.userid}` });
    button.addEventListener('click', () => {
      this.#answer(comment);
      part('comment-text').focus();
    });
    return button;
  }

  /** The id of the comment that the next one replies to; undefined where it is no reply. The one after it is none. */
  take() {
    const id = this.#to?.id;
    this.#answer(null);
    return id;
  }

  /** The line above a reply; null for a comment that is none. */
  line({ reply_to: id }) {
    if (!id) return null;
    const line = element('span', 'reply', '');
    line.dataset.to = id;
    this.#write(line);
    return line;
  }

  /** Other comments are shown than before: what they were replied to with says so. */
  refresh() {
    for (const line of document.querySelectorAll('#comment-list .reply')) this.#write(line);
  }

  /** A comment was removed: no reply repeats its words. */
  removed(id) {
    if (this.#to?.id === id) this.#answer(null);
    this.refresh();
  }

  #write(line) {
    const comment = this.#find(line.dataset.to);
    const text = [...(comment?.comment ?? '')];
    const quoted = text.length > QUOTED ? `${text.slice(0, QUOTED).join('')}…` : text.join('');
    line.textContent = comment ? `Reply to ${comment.userid}: ${quoted}` : 'Reply to an earlier comment';
  }

  #answer(comment) {
    this.#to = comment;
    part('reply-note').hidden = comment === null;
    part('reply-to').textContent = comment ? `You reply to ${comment.userid}.` : '';
  }
}
