/** Viewers by reader over the last 15 minutes, one upon the other, with the moves of that time. Drawn by uPlot. */

import { element, exact, short } from './console-format.js';

const HEIGHT = 240;
/** As long as little is known, the chart shows a shorter time, in s. */
const LEAST_SPAN = 120;
/** The capacity is drawn where it is not far above what there is; elsewhere it would press everything to the floor. */
const CAPACITY_FROM = 0.3;
/** Hues that stay apart; a reader keeps its own as long as the page is open. */
const HUES = [231, 172, 38, 330, 96, 14, 276, 200, 60, 300, 150, 0];
const isDark = () => document.documentElement.dataset.theme === 'dark';

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const colours = new Map();

/** The colour of a reader. */
export function colourOf(reader) {
  if (!colours.has(reader)) colours.set(reader, HUES[colours.size % HUES.length]);
  return `hsl(${colours.get(reader)} 58% ${isDark() ? 56 : 58}%)`;
}

/** uPlot is fetched when it is first needed: whoever only watches does not load it. */
let loading = null;
function load() {
  loading ??= new Promise((resolve, reject) => {
    document.head.append(Object.assign(document.createElement('link'), { rel: 'stylesheet', href: '/vendor/uplot.css' }));
    const script = Object.assign(document.createElement('script'), { src: '/vendor/uplot.js' });
    script.onload = () => resolve(globalThis.uPlot);
    script.onerror = () => {
      loading = null;
      reject(new Error('the chart could not be loaded'));
    };
    document.head.append(script);
  });
  return loading;
}

export class ViewersChart {
  #root;
  #legend;
  #plot = null;
  #names = [];
  #shown = null;
  #marks = [];

  constructor(root, legend) {
    this.#root = root;
    this.#legend = legend;
    new ResizeObserver(() => this.#plot?.setSize({ width: root.clientWidth, height: HEIGHT })).observe(root);
    addEventListener('colours', () => {
      this.#forget();
      if (this.#shown) this.draw(...this.#shown);
    });
  }

  /** Fetches what it needs. */
  open() {
    load().catch(() => {});
  }

  /** Draws the history of `placement`, which was so at `now` (ms since 1970). */
  draw(placement, now) {
    this.#shown = [placement, now];
    const { history, capacity, moves } = placement;
    const columns = history.readers.toSorted((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true }));
    if (history.others.some((count) => count > 0)) columns.push({ id: 'others', viewers: history.others });
    this.#marks = moves.map((move) => ({ at: (now - move.age_ms) / 1_000, kind: move.by === 'drain' ? 'drain' : move.kind }));
    this.#describe(columns, placement);
    if (!globalThis.uPlot) {
      load().then(() => this.#shown && this.draw(...this.#shown)).catch(() => {});
      return;
    }
    const names = columns.map(({ id }) => id);
    const times = history.times.map((ms) => ms / 1_000);
    const stacked = stack(columns.map(({ viewers }) => viewers));
    const top = Math.max(0, ...(stacked.at(-1) ?? []));
    const limit = capacity > 0 && top >= capacity * CAPACITY_FROM ? times.map(() => capacity) : times.map(() => null);
    const data = [times, ...stacked, limit];
    if (names.join('\n') !== this.#names.join('\n')) this.#forget();
    if (this.#plot) this.#plot.setData(data);
    else this.#make(names, data);
    this.#values(null);
  }

  #forget() {
    this.#plot?.destroy();
    this.#plot = null;
  }

  #make(names, data) {
    this.#names = names;
    const style = getComputedStyle(document.documentElement);
    const [muted, grid, warn] = ['--muted', '--line', '--warn'].map((name) => style.getPropertyValue(name).trim());
    const axis = { stroke: muted, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' };
    const series = names.map((name) => ({ label: name, stroke: colourOf(name), fill: colourOf(name).replace(')', ' / 55%)'), width: 1, points: { show: false } }));
    const options = {
      width: this.#root.clientWidth || 600,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { range: (_, min, max) => [Math.min(min, max - LEAST_SPAN), max] },
        y: { range: (_, __, max) => [0, Math.max(4, max * 1.08)] },
      },
      axes: [
        { ...axis, size: 28, values: (_, ticks) => ticks.map((at) => clock.format(new Date(at * 1_000))), space: 72, incrs: [60, 120, 180, 300] },
        { ...axis, size: 46, values: (_, ticks) => ticks.map((value) => (Number.isInteger(value) ? short(value) : '')) },
      ],
      series: [{}, ...series, { label: 'capacity', stroke: warn, dash: [6, 5], width: 1.5, points: { show: false } }],
      // Each area ends where the one below it begins.
      bands: names.slice(1).map((_, index) => ({ series: [index + 2, index + 1] })),
      hooks: { setCursor: [(plot) => this.#values(plot.cursor.idx)], draw: [(plot) => this.#drawMarks(plot, muted)] },
    };
    this.#plot = new globalThis.uPlot(options, data, this.#root);
    this.#plot.root.setAttribute('aria-hidden', 'true');
  }

  /** A line for each move: what the areas did there. */
  #drawMarks(plot, colour) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour;
    ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.globalAlpha = 0.75;
    for (const at of new Set(this.#marks.map((mark) => Math.round(mark.at)))) {
      if (at < plot.scales.x.min || at > plot.scales.x.max) continue;
      const x = Math.round(plot.valToPos(at, 'x', true)) + 0.5;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  /** The legend: each reader's viewers where the pointer is, or now. */
  #values(index) {
    if (!this.#shown) return;
    const { history } = this.#shown[0];
    const at = index ?? history.times.length - 1;
    const byName = new Map(history.readers.map(({ id, viewers }) => [id, viewers[at] ?? 0]));
    byName.set('others', history.others[at] ?? 0);
    for (const item of this.#legend.children) item.lastChild.textContent = exact(byName.get(item.dataset.key) ?? 0);
  }

  #describe(columns, { viewers, capacity }) {
    const names = columns.map(({ id }) => id);
    const shown = [...this.#legend.children].map((item) => item.dataset.key);
    if (names.join('\n') !== shown.join('\n')) {
      this.#legend.replaceChildren(...names.map((name) => {
        const item = element('li');
        item.dataset.key = name;
        const swatch = element('i', 'swatch');
        swatch.style.background = colourOf(name);
        item.append(swatch, element('span', '', name), element('b'));
        return item;
      }));
    }
    const most = Math.max(viewers, ...stack(columns.map((column) => column.viewers)).at(-1) ?? []);
    this.#root.setAttribute('aria-label', `Viewers by reader over the last 15 minutes: ${exact(viewers)} now, at most ${exact(most)}, and room for ${exact(capacity)}.`);
  }
}

/** Running sums, so that each column stands on those before it. */
function stack(columns) {
  const sums = [];
  for (const column of columns) {
    const below = sums.at(-1);
    sums.push(column.map((value, index) => value + (below?.[index] ?? 0)));
  }
  return sums;
}
