/** The pinned comment of the open video, and the buttons by which a moderator pins another one, or none. */

import { element } from './console-format.js';

const part = (id) => document.getElementById(id);

export class Pins {
  #liverank;
  #moderates;
  #onDone;
  #video = null;
  #id = null;
  /** How often the stream has told of a pin: what a page says holds only if it told of none since the page was asked for. */
  #told = 0;

  /** `moderates()` says whether there are buttons; `onDone(text, bad)` is told what was done, or why it was not. */
  constructor(liverank, { moderates, onDone }) {
    this.#liverank = liverank;
    this.#moderates = moderates;
    this.#onDone = onDone;
    part('unpin').addEventListener('click', () => this.#change(part('unpin'), () => liverank.unpinComment(this.#video), 'No comment is pinned.'));
  }

  /** Another video is opened. */
  open(video) {
    this.#video = video;
    this.#told += 1;
    this.#show(null);
  }

  /** Returns what hears the newest page that is asked for now. */
  asked() {
    const told = this.#told;
    return ({ pinned }) => told === this.#told && this.#show(pinned ?? null);
  }

  /** The stream told of a pin; `known` is the comment where the page has it. */
  async take({ id, videoid }, known) {
    this.#told += 1;
    const told = this.#told;
    if (id === null || known) return this.#show(known ?? null);
    this.#show(null);
    // One that was removed since is not found.
    const { comments } = await this.#liverank.history(videoid, { around: id, limit: 1 }).catch(() => ({ comments: [] }));
    const found = comments.find((comment) => comment.id === id);
    if (found && told === this.#told) this.#show(found);
    return undefined;
  }

  removed(id) {
    if (id === this.#id) this.#show(null);
  }

  /** A button that pins a comment; null where there is none. */
  button({ id, videoid, userid }) {
    if (!this.#moderates()) return null;
    const button = Object.assign(element('button', 'quiet', 'Pin'), { type: 'button', ariaLabel: `Pin the comment by ${userid}` });
    button.addEventListener('click', () => this.#change(button, () => this.#liverank.pinComment(videoid, id), 'The comment is pinned.'));
    return button;
  }

  /** What is pinned comes back by the stream. */
  async #change(button, what, done) {
    button.disabled = true;
    try {
      await what();
      this.#onDone(done);
    } catch (error) {
      this.#onDone(`It was not done: ${error.message}`, true);
    }
    button.disabled = false;
  }

  #show(comment) {
    this.#id = comment?.id ?? null;
    part('pinned').hidden = comment === null;
    part('pinned-author').textContent = comment?.userid ?? '';
    part('pinned-text').textContent = comment?.comment ?? '';
    part('unpin').hidden = !this.#moderates();
  }
}
