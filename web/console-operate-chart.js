/** Viewers by reader over the last 15 minutes, one upon the other, with the moves of that time. Drawn by uPlot. */

import { element, exact, percent, short } from './console-format.js';

const HEIGHT = 240;
/** As long as little is known, the chart shows a shorter time, in s. */
const LEAST_SPAN = 120;
/** The capacity is drawn where it is not far above what there is; elsewhere it would press everything to the floor. */
const CAPACITY_FROM = 0.3;
/** The length of the mark of a fair share, in px. */
const SHARE_MARK = 14;
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
  #shares = [];

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

  /**
   * Draws the history of `placement`, which was so at `now` (ms since 1970), with its moves, and when readers came and went.
   * `fair(reader)` is the number of viewers that would be a reader's fair share.
   */
  draw(placement, now, fair) {
    this.#shown = [placement, now, fair];
    const { history, capacity, moves } = placement;
    const columns = history.readers.toSorted((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true }));
    if (history.others.some((count) => count > 0)) columns.push({ id: 'others', viewers: history.others });
    this.#marks = moves.map((move) => ({ at: (now - move.age_ms) / 1_000, scale: '' }));
    this.#marks.push(...scalings(placement).map(({ at, action }) => ({ at: at / 1_000, scale: SCALE_MARKS[action] })));
    this.#shares = fairShares(columns, placement, fair);
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
    const [muted, grid, warn, text] = ['--muted', '--line', '--warn', '--text'].map((name) => style.getPropertyValue(name).trim());
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
      hooks: { setCursor: [(plot) => this.#values(plot.cursor.idx)], draw: [(plot) => this.#drawMarks(plot, muted), (plot) => this.#drawShares(plot, text)] },
    };
    this.#plot = new globalThis.uPlot(options, data, this.#root);
    this.#plot.root.setAttribute('aria-hidden', 'true');
  }

  /** A dotted line for each move, and a whole one with an arrow where readers came or went: what the areas did there. */
  #drawMarks(plot, colour) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour;
    ctx.fillStyle = colour;
    ctx.textAlign = 'center';
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.globalAlpha = 0.75;
    const marks = new Map(this.#marks.map((mark) => [`${Math.round(mark.at)}${mark.scale}`, mark]));
    for (const { at, scale } of marks.values()) {
      if (at < plot.scales.x.min || at > plot.scales.x.max) continue;
      const x = Math.round(plot.valToPos(at, 'x', true)) + 0.5;
      ctx.setLineDash(scale === '' ? [2 * devicePixelRatio, 3 * devicePixelRatio] : []);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top + (scale === '' ? 0 : 13 * devicePixelRatio));
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      if (scale !== '') ctx.fillText(scale, x, bbox.top + 10 * devicePixelRatio);
    }
    ctx.restore();
  }

  /** A stroke at the right edge where each area would end if every reader had its fair share. */
  #drawShares(plot, colour) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour;
    ctx.lineWidth = 2 * devicePixelRatio;
    let sum = 0;
    for (const share of this.#shares.slice(0, -1)) {
      sum += share;
      const y = Math.round(plot.valToPos(sum, 'y', true));
      ctx.beginPath();
      ctx.moveTo(bbox.left + bbox.width - SHARE_MARK * devicePixelRatio, y);
      ctx.lineTo(bbox.left + bbox.width, y);
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

  #describe(columns, placement) {
    const { viewers, capacity } = placement;
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
    const furthest = furthestWords(columns, this.#shares, placement.readers);
    const most = Math.max(viewers, ...stack(columns.map((column) => column.viewers)).at(-1) ?? []);
    this.#root.setAttribute('aria-label', `Viewers by reader over the last 15 minutes: ${exact(viewers)} now, at most ${exact(most)}, and room for ${exact(capacity)}.${furthest}${scaledWords(placement)}`);
  }
}

/** The fair share of each column; that of `others` is what is left. */
function fairShares(columns, { readers, viewers }, fair) {
  const byName = new Map(readers.map((reader) => [reader.id, fair(reader)]));
  const named = columns.reduce((sum, { id }) => sum + (byName.get(id) ?? 0), 0);
  return columns.map(({ id }) => byName.get(id) ?? (id === 'others' ? Math.max(0, viewers - named) : 0));
}

/** For those who hear the chart: the reader that is the furthest from its fair share, if one is a tenth away. */
function furthestWords(columns, shares, readers) {
  const now = new Map(readers.map((reader) => [reader.id, reader.viewers]));
  const off = columns.map(({ id }, index) => ({ id, off: shares[index] >= 1 && now.has(id) ? now.get(id) / shares[index] - 1 : 0 }));
  const [furthest] = off.toSorted((a, b) => Math.abs(b.off) - Math.abs(a.off));
  if (!furthest || Math.abs(furthest.off) < 0.1) return '';
  return ` ${furthest.id} is ${percent(Math.abs(furthest.off))} ${furthest.off > 0 ? 'above' : 'below'} its fair share.`;
}

/** What is drawn above the line of a decision on the number of readers. */
const SCALE_MARKS = { ScaleUp: '▲', ScaleDown: '▼' };

/** The decisions to have more or fewer readers, in the time that is drawn. */
function scalings({ planner, history }) {
  const since = history.times[0] ?? Infinity;
  return (planner.outside ?? []).filter(({ action, at }) => SCALE_MARKS[action] && at >= since);
}

/** The same for those who hear the chart. */
function scaledWords(placement) {
  const actions = scalings(placement).map(({ action }) => action);
  const count = (wanted) => actions.filter((action) => action === wanted).length;
  const words = [[count('ScaleUp'), 'raised'], [count('ScaleDown'), 'lowered']].filter(([times]) => times > 0);
  return words.map(([times, word]) => ` The number of readers was ${word} ${times === 1 ? 'once' : `${times} times`}.`).join('');
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
