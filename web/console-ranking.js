/** The ranked list: rows that move to their new place, keep the focus while they do, and open a video. */

const MOVE_MS = 450;
/** While a pointer is down on the list it stands still, so that a press lands on the row it was aimed at; at most this long, in ms. */
const HOLD_MS = 1_000;

const numbers = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
/** Decayed points become small, and are never nothing. */
const shown = (score) => (score > 0 && score < 0.05 ? '< 0.1' : numbers.format(score));
const calm = matchMedia('(prefers-reduced-motion: reduce)');

export class RankingView {
  #list;
  #onOpen;
  #rows = new Map();
  #videos = [];
  #selected = null;
  #frame = 0;
  #heldUntil = 0;
  #sought = '';

  constructor(list, { onOpen }) {
    this.#list = list;
    this.#onOpen = onOpen;
    list.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (button) this.#onOpen(button.dataset.video);
    });
    list.addEventListener('keydown', (event) => this.#moveFocus(event));
    list.addEventListener('focusin', () => this.#setTabStop());
    list.addEventListener('pointerdown', () => {
      this.#heldUntil = Date.now() + HOLD_MS;
    });
    for (const type of ['pointerup', 'pointercancel']) {
      addEventListener(type, () => {
        this.#heldUntil = 0;
        this.#schedule();
      });
    }
  }

  /** Shows this list, `[{video_id, score, user_id}]`, best first; many calls between two frames are drawn once. */
  show(videos) {
    this.#videos = videos;
    this.#schedule();
  }

  /** Shows only videos whose id or owner has these letters, at the ranks that they have; how many there are. */
  find(text) {
    this.#sought = text.toLocaleLowerCase();
    this.#schedule();
    return this.found.length;
  }

  /** The videos that are shown. */
  get found() {
    const has = (word) => (word ?? '').toLocaleLowerCase().includes(this.#sought);
    return this.#sought === '' ? this.#videos : this.#videos.filter((video) => has(video.video_id) || has(video.user_id));
  }

  /** Marks the video that is open. */
  select(videoId) {
    this.#selected = videoId;
    for (const row of this.#rows.values()) row.mark(videoId);
    this.#setTabStop();
  }

  /** Forgets the rows, so that another board's list does not fly in from this one's places. */
  clear() {
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#videos = [];
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (Date.now() < this.#heldUntil) this.#schedule();
      else this.#draw();
    });
  }

  #draw() {
    const before = new Map();
    for (const [id, row] of this.#rows) before.set(id, row.element.getBoundingClientRect().top);
    const found = this.found;
    const ranks = new Map(this.#videos.map((video, index) => [video.video_id, index + 1]));
    const shown = new Set(found.map((video) => video.video_id));
    for (const [id, row] of this.#rows) {
      if (shown.has(id)) row.stop();
      else {
        row.element.remove();
        this.#rows.delete(id);
      }
    }
    const best = Math.max(...this.#videos.map((video) => video.score), 0);
    const inOrder = found.map((video) => this.#row(video).update(video, ranks.get(video.video_id), best));
    placeInOrder(this.#list, inOrder.map((row) => row.element));
    const glides = !calm.matches && before.size > 0;
    // All positions are read before the first animation starts: one layout, whatever the number of rows.
    const now = glides ? inOrder.map((row) => row.element.getBoundingClientRect().top) : [];
    now.forEach((top, index) => inOrder[index].glide(before.get(inOrder[index].id), top));
    this.#setTabStop();
  }

  #row(video) {
    const known = this.#rows.get(video.video_id);
    if (known) return known;
    const row = new Row(video.video_id);
    row.mark(this.#selected);
    this.#rows.set(video.video_id, row);
    return row;
  }

  /** One row at a time is in the tab order: the focused one, else the open one, else the first. */
  #setTabStop() {
    const rows = [...this.#rows.values()];
    const stop =
      rows.find((row) => row.button === document.activeElement) ??
      this.#rows.get(this.#selected) ??
      this.#rows.get(this.found[0]?.video_id);
    for (const row of rows) row.button.tabIndex = row === stop ? 0 : -1;
  }

  #moveFocus(event) {
    const buttons = [...this.#list.querySelectorAll('button')].filter((button) => button.offsetParent);
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    buttons[Math.min(Math.max(to, 0), buttons.length - 1)]?.focus();
  }
}

/** One video's row. */
class Row {
  #parts;
  #score = null;
  #rank = null;
  #gliding = null;

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

  stop() {
    this.#gliding?.cancel();
    this.#gliding = null;
  }

  /** Moves from where it was seen last to where it is now; a new row fades in. */
  glide(from, to) {
    if (from === to) return;
    const start = from === undefined ? { opacity: 0 } : { transform: `translateY(${from - to}px)` };
    const end = from === undefined ? { opacity: 1 } : { transform: 'none' };
    const timing = { duration: MOVE_MS, easing: 'cubic-bezier(.2, .8, .2, 1)' };
    this.#gliding = this.element.animate([start, end], timing);
    // A row on its way up passes over the others.
    this.element.style.zIndex = from > to ? '1' : '';
  }
}

/**
 * Brings the children of `list` into this order without ever moving the one that has the focus: an element that is moved
 * in the document loses it.
 */
function placeInOrder(list, elements) {
  const anchor = elements.findIndex((element) => element.contains(document.activeElement));
  const pivot = anchor < 0 ? null : elements[anchor];
  let next = pivot;
  for (let i = (anchor < 0 ? elements.length : anchor) - 1; i >= 0; i -= 1) {
    if (elements[i].nextSibling !== next || elements[i].parentNode !== list) list.insertBefore(elements[i], next);
    next = elements[i];
  }
  let last = pivot;
  for (let i = anchor + 1; pivot && i < elements.length; i += 1) {
    if (last.nextSibling !== elements[i]) last.after(elements[i]);
    last = elements[i];
  }
}
