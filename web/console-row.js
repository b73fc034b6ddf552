/** One video's row of the ranked list, which moves to its new place and says that it did. */

const MOVE_MS = 450;

const numbers = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
/** Decayed points become small, and are never nothing. */
const shown = (score) => (score > 0 && score < 0.05 ? '< 0.1' : numbers.format(score));

/** One video's row. */
export class Row {
  #parts;
  #score = null;
  #rank = null;
  #gliding = null;
  #top = null;
  /** How far a row that was on its way is from its place, in px. */
  #offset = 0;

  constructor(id) {
    this.id = id;
    this.element = document.createElement('li');
    this.element.className = 'row';
    this.button = document.createElement('button');
    this.button.type = 'button';
    this.button.dataset.video = id;
    this.#parts = {};
    for (const name of ['rank', 'title', 'owner', 'score', 'meter']) {
      this.#parts[name] = document.createElement('span');
      this.#parts[name].className = name;
      this.button.append(this.#parts[name], ' ');
    }
    this.#parts.title.textContent = id;
    this.#parts.title.title = id;
    this.#parts.move = Object.assign(document.createElement('span'), { className: 'move', ariaHidden: 'true' });
    this.#parts.points = document.createElement('span');
    this.#parts.score.append(this.#parts.move, this.#parts.points);
    this.#parts.meter.append(document.createElement('i'));
    this.element.append(this.button);
  }

  /** Takes the video's score, owner and rank, and the best score of the list, to which the bar is drawn. */
  update({ score, user_id: owner }, rank, best) {
    const { points, move, meter, rank: place, owner: by } = this.#parts;
    if (score !== this.#score) {
      points.textContent = shown(score);
      if (this.#score !== null && score > this.#score) {
        points.animate([{ color: 'var(--accent)' }, { color: 'var(--text)' }], { duration: 900, easing: 'ease-in' });
      }
    }
    if (this.#rank !== null && rank !== this.#rank) {
      move.textContent = rank < this.#rank ? '▲' : '▼';
      move.className = `move ${rank < this.#rank ? 'up' : 'down'}`;
      move.animate([{ opacity: 1 }, { opacity: 1, offset: 0.6 }, { opacity: 0 }], { duration: 1_800 });
    }
    if (by.textContent !== `by ${owner}`) by.textContent = `by ${owner}`;
    place.textContent = rank;
    this.element.classList.toggle('podium', rank <= 3);
    meter.firstChild.style.transform = `scaleX(${best > 0 ? Math.max(score / best, 0) : 0})`;
    this.#score = score;
    this.#rank = rank;
    return this;
  }

  mark(selected) {
    if (selected === this.id) this.button.setAttribute('aria-current', 'true');
    else this.button.removeAttribute('aria-current');
  }

  /** Ends the way to its place, and remembers how far it had come. */
  stop() {
    this.#offset = this.#gliding?.playState === 'running' ? new DOMMatrix(getComputedStyle(this.element).transform).m42 : 0;
    this.#gliding?.cancel();
    this.#gliding = null;
  }

  /**
   * Puts the row `top` px below the list's top, as number `index + 1` of `count`. A row that `glides` moves there from where it
   * was, and fades in where it was not in the page before.
   */
  place(top, index, count, glides) {
    this.element.ariaPosInSet = index + 1;
    this.element.ariaSetSize = count;
    const from = this.#top === null ? null : this.#top + this.#offset;
    this.#offset = 0;
    if (from === top) return;
    this.#top = top;
    this.element.style.top = `${top}px`;
    if (!glides) return;
    const start = from === null ? { opacity: 0 } : { transform: `translateY(${from - top}px)` };
    const end = from === null ? { opacity: 1 } : { transform: 'none' };
    this.#gliding = this.element.animate([start, end], { duration: MOVE_MS, easing: 'cubic-bezier(.2, .8, .2, 1)' });
    // A row on its way up passes over the others.
    this.element.style.zIndex = from > top ? '1' : '';
  }
}
