/** A dialog with a list that is read in pages: what moderators look through. */

const part = (id) => document.getElementById(id);

/** Lines in a dialog at most: who looks for more of them asks the API. */
const MOST = 10_000;

export class PagedDialog {
  #name;
  #none;
  #read;
  #next = null;
  /** How often it was opened: what was asked for before is not shown any more. */
  #opened = 0;

  /**
   * `name` is the first word of the ids of its parts; `none` is said where the list is empty; `read(next)` resolves to
   * `{lines, next}`, elements and what the next page is asked for by, null at the end.
   */
  constructor(name, { none, read }) {
    this.#name = name;
    this.#none = none;
    this.#read = read;
    part(`show-${name}`).addEventListener('click', () => this.#open());
    part(`${name}-close`).addEventListener('click', () => part(`${name}-dialog`).close());
    part(`${name}-more`).addEventListener('click', () => this.#page());
  }

  /** Shows the button that opens it, or hides it. */
  offer(moderates) {
    part(`show-${this.#name}`).hidden = !moderates;
  }

  /** Takes a line away that is done with. */
  remove(line) {
    line.remove();
    this.#left();
    part(`${this.#name}-close`).focus();
  }

  say(text) {
    part(`${this.#name}-note`).textContent = text;
  }

  #left() {
    this.say(part(`${this.#name}-list`).childElementCount === 0 ? this.#none : '');
  }

  #open() {
    part(`${this.#name}-list`).replaceChildren();
    this.#next = null;
    this.#opened += 1;
    part(`${this.#name}-more`).hidden = true;
    part(`${this.#name}-dialog`).showModal();
    this.#page();
  }

  async #page() {
    const opened = this.#opened;
    const more = part(`${this.#name}-more`);
    more.disabled = true;
    this.say('Loading…');
    try {
      const { lines, next } = await this.#read(this.#next);
      if (opened !== this.#opened) return;
      this.#next = next;
      part(`${this.#name}-list`).append(...lines);
      const full = part(`${this.#name}-list`).childElementCount >= MOST;
      more.hidden = next === null || full;
      this.#left();
      if (next !== null && full) this.say(`Here are the first ${MOST.toLocaleString('en')}; the API has the others.`);
    } catch (error) {
      if (opened === this.#opened) this.say(`It could not be read: ${error.message}`);
    } finally {
      if (opened === this.#opened) more.disabled = false;
    }
  }
}
