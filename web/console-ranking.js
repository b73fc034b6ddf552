/** The ranked list: rows that keep the focus while they move, and open a video. Only those near what is seen are in the page. */

import { Row } from './console-row.js';
import { RowWindow } from './console-window.js';

/** While a pointer is down on the list it stands still, so that a press lands on the row it was aimed at; at most this long, in ms. */
const HOLD_MS = 1_000;
/** Rows that Page Up and Page Down pass. */
const PAGE = 10;

const calm = matchMedia('(prefers-reduced-motion: reduce)');

export class RankingView {
  #list;
  #onOpen;
  #window;
  /** The rows in the page, by video. */
  #rows = new Map();
  #videos = [];
  #most = Infinity;
  /** The videos that are listed, each with its rank. */
  #listed = [];
  /** The place of each listed video. */
  #places = new Map();
  #best = 0;
  #changed = false;
  #selected = null;
  #focused = null;
  #frame = 0;
  #heldUntil = 0;
  #sought = '';

  constructor(list, { onOpen }) {
    this.#list = list;
    this.#onOpen = onOpen;
    this.#window = new RowWindow(list, { onMove: () => this.#schedule() });
    list.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (button) this.#onOpen(button.dataset.video);
    });
    list.addEventListener('keydown', (event) => this.#moveFocus(event));
    list.addEventListener('focusin', (event) => {
      this.#focused = event.target.dataset.video ?? null;
      this.#setTabStop();
    });
    list.addEventListener('focusout', () => {
      this.#focused = null;
    });
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
    this.#change();
  }

  /** Shows at most so many rows. */
  limit(most) {
    this.#most = most;
    this.#change();
  }

  /** Shows only videos whose id or owner has these letters, at the ranks that they have; how many there are. */
  find(text) {
    this.#sought = text.toLocaleLowerCase();
    this.#change();
    return this.found.length;
  }

  /** The videos that have what is sought. */
  get found() {
    const has = (word) => (word ?? '').toLocaleLowerCase().includes(this.#sought);
    return this.#sought === '' ? this.#videos : this.#videos.filter((video) => has(video.video_id) || has(video.user_id));
  }

  /** Marks the video that is open. */
  select(videoId) {
    this.#selected = videoId;
    for (const row of this.#rows.values()) row.mark(videoId);
    this.#schedule();
  }

  /** Gives a row the focus, wherever the list is scrolled to; the last one where there are not so many. */
  focusAt(index) {
    if (this.#changed) this.#rank();
    const video = this.#listed[Math.min(Math.max(index, 0), this.#listed.length - 1)];
    if (!video) return;
    this.#focused = video.video_id;
    this.#draw();
    this.#rows.get(video.video_id).button.focus();
  }

  /** Forgets the rows, so that another board's list does not fly in from this one's places. */
  clear() {
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#videos = [];
    this.#change();
  }

  #change() {
    this.#changed = true;
    this.#schedule();
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (Date.now() < this.#heldUntil) this.#schedule();
      else this.#draw();
    });
  }

  /** Works out what is listed, and where each video stands in it: once for every change, not for every turn of the wheel. */
  #rank() {
    this.#changed = false;
    const found = this.found;
    const ranks = found === this.#videos ? null : new Map(this.#videos.map((video, index) => [video.video_id, index + 1]));
    this.#listed = found.slice(0, this.#most).map((video, index) => ({ ...video, rank: ranks?.get(video.video_id) ?? index + 1 }));
    this.#places = new Map(this.#listed.map((video, index) => [video.video_id, index]));
    this.#best = this.#videos.reduce((best, { score }) => Math.max(best, score), 0);
  }

  #draw() {
    const isNew = this.#changed;
    const glides = isNew && !calm.matches && this.#rows.size > 0;
    if (isNew) this.#rank();
    const count = this.#listed.length;
    this.#list.style.height = `${this.#window.top(count)}px`;
    const places = this.#near();
    const near = new Set(places.map((place) => this.#listed[place].video_id));
    // Read before anything is written: one layout, whatever the number of rows.
    if (isNew) for (const row of this.#rows.values()) row.stop();
    for (const [id, row] of this.#rows) {
      if (near.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    const rows = places.map((place) => {
      const video = this.#listed[place];
      return this.#row(video).update(video, video.rank, this.#best);
    });
    placeInOrder(this.#list, rows.map((row) => row.element));
    rows.forEach((row, nth) => row.place(this.#window.top(places[nth]), places[nth], count, glides));
    this.#setTabStop();
    // Fonts and the width of the screen decide how high a row is.
    if (rows.length > 0 && this.#window.measure(rows[0].element)) this.#schedule();
  }

  /** The places to draw, in order: those near what is seen, of the row with the focus, and of the open video. */
  #near() {
    const [first, end] = this.#window.range(this.#listed.length);
    const places = new Set(Array.from({ length: end - first }, (_, nth) => first + nth));
    for (const id of [this.#focused, this.#selected]) {
      if (this.#places.has(id)) places.add(this.#places.get(id));
    }
    return [...places].sort((a, b) => a - b);
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
    const stop = this.#rows.get(this.#focused) ?? this.#rows.get(this.#selected) ?? this.#rows.get(this.#listed.find(({ video_id: id }) => this.#rows.has(id))?.video_id);
    for (const row of rows) row.button.tabIndex = row === stop ? 0 : -1;
  }

  #moveFocus(event) {
    const at = this.#places.get(this.#focused) ?? 0;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + PAGE, PageUp: at - PAGE, Home: 0, End: this.#listed.length - 1 }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.focusAt(to);
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
