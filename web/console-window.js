/** Which rows of a long list are near what is seen. Only these are in the page, so its work does not grow with the list. */

/** Rows beyond each edge of what is seen: a turn of the wheel does not show an empty place before the next frame. */
const SPARE = 10;
/** The height of a row until one has been measured, in px. */
const FIRST_HEIGHT = 60;

export class RowWindow {
  #list;
  #height = FIRST_HEIGHT;

  /** `onMove` is told that the list was scrolled or that the page has another size. */
  constructor(list, { onMove }) {
    this.#list = list;
    // Either the page scrolls or a part of it; `scroll` does not bubble.
    document.addEventListener('scroll', onMove, { capture: true, passive: true });
    addEventListener('resize', onMove);
  }

  /** The place of a row from the top of the list, in px. */
  top(index) {
    return index * this.#height;
  }

  /** Takes the height of a row as it is drawn; whether it is another one than before. */
  measure(element) {
    const height = element.offsetHeight;
    if (height === 0 || height === this.#height) return false;
    this.#height = height;
    return true;
  }

  /** The first row to draw of `count`, and the one after the last. */
  range(count) {
    const list = this.#list.getBoundingClientRect();
    const box = scroller(this.#list)?.getBoundingClientRect();
    const top = Math.max(box?.top ?? 0, 0) - list.top;
    const bottom = Math.min(box?.bottom ?? innerHeight, innerHeight) - list.top;
    const first = Math.floor(top / this.#height) - SPARE;
    const end = Math.ceil(bottom / this.#height) + SPARE;
    return [Math.min(Math.max(first, 0), count), Math.min(Math.max(end, 0), count)];
  }
}

/** The element around the list that scrolls it; undefined where the page does. */
function scroller(list) {
  const around = list.closest('.scroll');
  return around && getComputedStyle(around).overflowY !== 'visible' ? around : undefined;
}
