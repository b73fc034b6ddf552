/** The rank of the open video over the last minutes, as this page saw it. */

const SPAN_MS = 15 * 60_000;
/** As long as little is known, the chart shows a shorter time. */
const LEAST_SPAN_MS = 60_000;
/** The first of a list are followed, and the open video, wherever it stands. */
const FOLLOWED = 50;
/** Changes of rank that are kept of a video; of more the oldest go. */
const MOST_CHANGES = 300;
/** How often the line grows to the right while no rank changes, in ms. */
const DRAW_MS = 5_000;
const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 600;
const HEIGHT = 60;

export class RankHistory {
  #root;
  #svg;
  #text;
  #since;
  /** By video, `[{at, rank}]`; `rank` is null from when on it was not in the list. */
  #changes = new Map();
  #video = null;

  constructor(root) {
    this.#root = root;
    this.#svg = root.querySelector('svg');
    this.#text = root.querySelector('.said');
    this.#since = root.querySelector('.since');
    this.#svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    this.#svg.setAttribute('preserveAspectRatio', 'none');
    setInterval(() => this.#draw(), DRAW_MS);
  }

  /** Another board, or another owner's list: its ranks have nothing to do with those before. */
  clear() {
    this.#changes.clear();
    this.#draw();
  }

  /** Takes a list, best first. */
  add(list, now = Date.now()) {
    const ranks = new Map(list.slice(0, FOLLOWED).map((video, index) => [video.video_id, index + 1]));
    const place = list.findIndex(({ video_id: id }) => id === this.#video);
    if (place >= 0) ranks.set(this.#video, place + 1);
    for (const [id, changes] of this.#changes) {
      if (!ranks.has(id)) note(changes, null, now);
      while (changes.length > 1 && (changes[1].at < now - SPAN_MS || changes.length > MOST_CHANGES)) changes.shift();
      if (changes.length === 1 && changes[0].rank === null && changes[0].at < now - SPAN_MS) this.#changes.delete(id);
    }
    for (const [id, rank] of ranks) {
      if (!this.#changes.has(id)) this.#changes.set(id, []);
      note(this.#changes.get(id), rank, now);
    }
    this.#draw(now);
  }

  /** Shows the ranks of this video. */
  open(video) {
    this.#video = video;
    this.#draw();
  }

  #draw(now = Date.now()) {
    const changes = (this.#changes.get(this.#video) ?? []).filter((_, index, all) => all[index + 1] === undefined || all[index + 1].at >= now - SPAN_MS);
    const ranks = changes.flatMap(({ rank }) => (rank === null ? [] : [rank]));
    // A line that never moved says nothing that the list does not.
    this.#root.hidden = ranks.length < 2;
    if (this.#root.hidden) return;
    const [best, worst] = [Math.min(...ranks), Math.max(...ranks)];
    const span = Math.max(LEAST_SPAN_MS, now - Math.max(changes[0].at, now - SPAN_MS));
    const x = (at) => Math.max(0, WIDTH - ((now - at) / span) * WIDTH);
    const y = (rank) => 6 + ((rank - best) / Math.max(worst - best, 1)) * (HEIGHT - 12);
    const lines = [];
    changes.forEach(({ at, rank }, index) => {
      if (rank === null) return;
      const end = changes[index + 1]?.at ?? now;
      const joins = changes[index - 1] && changes[index - 1].rank !== null;
      lines.push(`${joins ? 'L' : 'M'}${x(at).toFixed(1)},${y(rank).toFixed(1)} L${x(end).toFixed(1)},${y(rank).toFixed(1)}`);
    });
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', lines.join(' '));
    path.setAttribute('class', 'rank-line');
    this.#svg.replaceChildren(path);
    const current = changes.at(-1).rank;
    const is = current === null ? 'not in the list now' : `${current} now`;
    this.#text.textContent = `${is}, best ${best}, worst ${worst}`;
    this.#svg.setAttribute('aria-label', `Rank over the last minutes: ${this.#text.textContent}`);
    this.#since.textContent = `${Math.round(span / 60_000)} min ago`;
  }
}

function note(changes, rank, at) {
  if (changes.at(-1)?.rank !== rank) changes.push({ at, rank });
}
