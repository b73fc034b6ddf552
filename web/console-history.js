/** How many viewers each reader had over the last minutes: areas, one upon the other. */

const SPAN_MS = 15 * 60_000;
/** As long as little is known, the chart shows a shorter time. */
const LEAST_SPAN_MS = 60_000;
const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 600;
const HEIGHT = 120;
/** Readers with an area of their own; the smallest others share one. */
const AREAS = 8;

const numbers = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export class HistoryChart {
  #root;
  #svg;
  #most;
  #since;
  #samples = [];

  constructor(root) {
    this.#root = root;
    this.#svg = root.querySelector('svg');
    this.#most = root.querySelector('.most');
    this.#since = root.querySelector('.since');
    this.#svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    this.#svg.setAttribute('preserveAspectRatio', 'none');
  }

  /** Takes what the readers have now, `[{name, value}]`. */
  add(values, now = Date.now()) {
    this.#samples.push({ at: now, values: new Map(values.map(({ name, value }) => [name, value])) });
    while (this.#samples[0].at < now - SPAN_MS) this.#samples.shift();
    this.#root.hidden = this.#samples.length < 2;
    if (!this.#root.hidden) this.#draw(now);
  }

  #draw(now) {
    const totals = this.#samples.map(({ values }) => [...values.values()].reduce((sum, value) => sum + value, 0));
    const top = ceiling(Math.max(...totals));
    const span = Math.max(LEAST_SPAN_MS, now - this.#samples[0].at);
    const x = (at) => WIDTH - ((now - at) / span) * WIDTH;
    const y = (value) => HEIGHT - (value / top) * HEIGHT;
    const base = this.#samples.map(() => 0);
    const areas = this.#names().map((group, index) => {
      const upper = this.#samples.map(({ values }, at) => base[at] + group.reduce((sum, name) => sum + (values.get(name) ?? 0), 0));
      const there = this.#samples.map(({ at }, i) => `${x(at).toFixed(1)},${y(upper[i]).toFixed(1)}`);
      const back = this.#samples.map(({ at }, i) => `${x(at).toFixed(1)},${y(base[i]).toFixed(1)}`).reverse();
      upper.forEach((value, i) => (base[i] = value));
      const area = document.createElementNS(SVG, 'polygon');
      area.setAttribute('points', [...there, ...back].join(' '));
      area.setAttribute('class', `area area-${index % AREAS}`);
      const title = document.createElementNS(SVG, 'title');
      title.textContent = group.length === 1 ? group[0] : `${group.length} other readers`;
      area.append(title);
      return area;
    });
    this.#svg.replaceChildren(...areas);
    this.#most.textContent = numbers.format(top);
    this.#since.textContent = `${Math.round(span / 60_000)} min ago`;
    this.#svg.setAttribute('aria-label', `Viewers over the last minutes: ${totals.at(-1)} now, at most ${Math.max(...totals)}`);
  }

  /** The readers' names in groups that get an area each. */
  #names() {
    const names = [...new Set(this.#samples.flatMap(({ values }) => [...values.keys()]))];
    names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    const own = names.slice(0, AREAS - 1).map((name) => [name]);
    const others = names.slice(AREAS - 1);
    return others.length > 0 ? [...own, others] : own;
  }
}

/** A round number at or above `value`. */
function ceiling(value) {
  if (value <= 4) return 4;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * unit).find((step) => step >= value);
}
