/** How numbers and times are written, and how lists are brought up to date. */

const whole = new Intl.NumberFormat('en');
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const parts = new Intl.NumberFormat('en', { style: 'percent', maximumFractionDigits: 1 });

export const exact = (value) => whole.format(value);
/** 20,000 is `20K`. */
export const short = (value) => (Math.abs(value) < 10_000 ? whole.format(value) : compact.format(value));
export const percent = (value) => parts.format(value);
export const plural = (count, one, many = `${one}s`) => `${whole.format(count)} ${count === 1 ? one : many}`;
/** A rate, which is null where it is not known. */
export const rate = (value) => {
  if (value === null || value === undefined) return '–';
  return Math.abs(value) >= 10_000 ? compact.format(value) : tenths.format(value);
};

/** A time that has passed, in ms. */
export function seconds(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 90_000) return `${Math.round(ms / 1_000)} s`;
  return ms < 5_400_000 ? `${Math.round(ms / 60_000)} min` : `${tenths.format(ms / 3_600_000)} h`;
}

const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });

/** When something was, as `30 Nov, 08:15`. */
export const moment = (timestamp) => day.format(new Date(timestamp));

/** An element with a class and a text. */
export function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== '') made.textContent = text;
  return made;
}

/** Makes a list's children those of `items`, in this order; an item that was there keeps its element, and so the focus. */
export function replaceList(list, items, keyOf, make, fill) {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let at = list.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const row = known.get(key) ?? make(item);
    known.delete(key);
    row.dataset.key = key;
    fill(row, item);
    if (row === at) at = at.nextElementSibling;
    else list.insertBefore(row, at);
  }
  for (const child of known.values()) child.remove();
}
