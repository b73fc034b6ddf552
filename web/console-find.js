/** Finding a video or an owner in the ranking: `/` leads there, Enter opens the first that is found, or the id as it was typed. */

const part = (id) => document.getElementById(id);

export class FindField {
  #ranking;
  #shown;
  #field = part('find');

  /** `shown()` is how many videos the ranking has at most; `onOpen` is told which video is chosen. */
  constructor(ranking, { shown, onOpen }) {
    this.#ranking = ranking;
    this.#shown = shown;
    this.#field.addEventListener('input', () => this.#seek());
    this.#field.addEventListener('keydown', (event) => {
      const sought = this.#field.value.trim();
      if (event.key === 'Escape') {
        this.clear();
        this.#field.blur();
      } else if (event.key === 'Enter' && sought !== '') {
        onOpen(ranking.found[0]?.video_id ?? sought);
      } else if (event.key === 'ArrowDown') {
        event.preventDefault();
        ranking.focusAt(0);
      }
    });
    addEventListener('keydown', (event) => {
      const writes = event.target.closest?.('input, textarea, select, [contenteditable]');
      const meant = event.key === '/' && !event.altKey && !event.ctrlKey && !event.metaKey;
      if (!meant || writes || this.#field.hidden || part('watch').hidden || document.querySelector('dialog[open]')) return;
      event.preventDefault();
      this.#field.focus();
    });
  }

  /** There is another list: what is sought is looked for in it. */
  offer(list) {
    this.#field.hidden = list.length === 0 && this.#field.value === '';
    this.#seek();
  }

  /** Nothing is sought. */
  clear() {
    this.#field.value = '';
    this.#seek();
  }

  #seek() {
    const sought = this.#field.value.trim();
    const count = this.#ranking.find(sought);
    part('find-none').hidden = sought === '' || count > 0;
    part('find-none').textContent = `Nothing of that name among the first ${this.#shown().toLocaleString('en')}. Enter opens the video ${sought}.`;
  }
}
