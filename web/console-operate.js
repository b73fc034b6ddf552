/** The Operate tab: how the system is, from `GET /operate`, while somebody looks at it. */

import { ViewersChart, colourOf } from './console-operate-chart.js';
import { showMoves, showPlanner } from './console-operate-moves.js';
import { WhatIf } from './console-operate-what-if.js';
import { element, exact, percent, plural, rate, replaceList, seconds, short } from './console-format.js';

/** How often it is asked, in ms; the server gathers an answer once a second at most. */
const POLL_MS = 2_000;
/** An answer that is older than this is said to be old, in ms. */
const STALE_MS = 7_000;
/** Points of the small lines in the tiles. */
const KEPT = 60;
/** Readers and videos that are shown before somebody asks for all. */
const FEW = 12;

const part = (id) => document.getElementById(id);

const REFUSALS = {
  refused_invalid: 'cannot be read',
  refused_unavailable: 'the log is away',
  refused_overload: 'too much at once',
  refused_limited: 'one caller sends too much',
  refused_token: 'no good token',
  refused_viewers: 'viewers asked to come back',
};

export class OperateView {
  #ask;
  #session;
  #timer = null;
  #open = false;
  #answered = 0;
  #chart = new ViewersChart(part('operate-chart'), part('operate-legend'));
  #whatIf;
  #lines = new Map();

  /** `ask(path, init)` is `fetch` with what shows who asks; `session` is where one signs in. */
  constructor({ ask, session }) {
    this.#ask = ask;
    this.#session = session;
    this.#whatIf = new WhatIf(ask);
    part('operate-sign-in').addEventListener('click', () => session.ask());
    part('demo-start').addEventListener('click', async () => {
      const response = await ask('/operate/demo', { method: part('demo').dataset.running === 'true' ? 'DELETE' : 'POST' }).catch(() => null);
      if (response?.ok) setTimeout(() => this.refresh(), 300);
      else part('demo-text').textContent = 'The server did not take it: try again.';
    });
    document.addEventListener('visibilitychange', () => this.refresh());
  }

  /** Begins to ask, or stops. */
  show(open) {
    this.#open = open;
    if (open) this.#chart.open();
    this.refresh();
  }

  /** Asks again now: somebody signed in, or came back. */
  refresh() {
    clearTimeout(this.#timer);
    if (this.#open && !document.hidden) this.#poll();
  }

  async #poll() {
    try {
      const response = await this.#ask('/operate', { signal: AbortSignal.timeout(10_000) });
      if (response.ok) {
        this.#show(await response.json());
        this.#say('');
      } else await this.#refused(response);
    } catch {
      this.#say(this.#answered === 0 ? 'The server does not answer.' : `The server does not answer: this is of ${clock(this.#answered)}.`);
    }
    const old = Date.now() - this.#answered > STALE_MS;
    part('operate-body').classList.toggle('stale', old && this.#answered > 0);
    clearTimeout(this.#timer);
    if (this.#open && !document.hidden) this.#timer = setTimeout(() => this.#poll(), POLL_MS);
  }

  async #refused(response) {
    const problem = await response.json().catch(() => ({}));
    if (response.status === 401) this.#say(this.#session.token === null ? 'Sign in to see how the system is.' : 'Your token is not good any more: sign in again.', true);
    else if (response.status === 403) this.#say('Your token lets you watch. To see how the system is, it needs the role operator or service.', true);
    else this.#say(problem.detail ?? `The server answers ${response.status}.`);
    if (response.status === 401 || response.status === 403) part('operate-body').hidden = true;
  }

  #say(text, signIn = false) {
    if (part('operate-note-text').textContent !== text) part('operate-note-text').textContent = text;
    part('operate-note').hidden = text === '';
    part('operate-sign-in').hidden = !signIn;
  }

  #show(answer) {
    this.#answered = Date.now();
    part('operate-body').hidden = false;
    const placement = answer.placement ?? EMPTY;
    const readers = placement.readers.filter((reader) => reader.state !== 'gone' || reader.viewers > 0);
    const open = readers.filter((reader) => reader.state === 'alive' && reader.cordon === null);
    const openCapacity = open.reduce((sum, reader) => sum + reader.capacity, 0);
    const fair = (reader) => (openCapacity > 0 && open.includes(reader) ? (placement.viewers * reader.capacity) / openCapacity : 0);
    this.#tiles(answer, placement, open.length);
    this.#chart.draw(placement, answer.at, fair);
    this.#readers(readers, fair);
    this.#videos(placement);
    showMoves(placement, part('operate-moves'), part('operate-move-announcer'));
    showPlanner(placement.planner, answer.at, part('operate-planner'));
    this.#whatIf.know(placement, open.length);
    this.#lag(answer);
    this.#refusals(answer);
    this.#health(answer, placement);
    showDemo(answer.demo);
  }

  // ------------------------------------------------------------------------------------------------- tiles

  #tiles({ rates, lag }, placement, open) {
    const refused = Object.keys(REFUSALS).reduce((sum, name) => sum + (rates[name] ?? 0), 0);
    const used = placement.capacity > 0 ? placement.viewers / placement.capacity : 0;
    const tiles = [
      ['viewers', 'Viewers', exact(placement.viewers), `${percent(used)} of ${short(placement.capacity)}`, placement.viewers],
      ['readers', 'Readers', exact(open), open === placement.readers_total ? 'all take viewers' : `take viewers, of ${placement.readers_total}`, null],
      ['logged', 'Into the log', rate(rates.logged), 'records a second', rates.logged],
      ['delivered', 'Delivered', rate(rates.delivered), 'comments a second', rates.delivered],
      ['lag', 'Not counted yet', lag ? short(lag.records) : '–', lag ? lagWords(lag) : 'the stores do not answer', lag?.records ?? null],
      ['moving', 'On their way', exact(placement.in_flight), 'handed over now', placement.in_flight],
      ['refused', 'Refused', rate(refused), 'requests a second, here', refused],
    ];
    for (const [name, title, value, note, point] of tiles) this.#tile(name, title, value, note, point);
    part('operate-tiles').querySelector('[data-tile="refused"]').classList.toggle('warn', refused > 0);
    part('operate-tiles').querySelector('[data-tile="lag"]').classList.toggle('warn', (lag?.waited_ms ?? 0) > 5_000);
  }

  #tile(name, title, value, note, point) {
    const tiles = part('operate-tiles');
    let tile = tiles.querySelector(`[data-tile="${name}"]`);
    if (!tile) {
      tile = element('div', 'tile');
      tile.dataset.tile = name;
      tile.append(element('dt', '', title), element('dd', 'value'), element('dd', 'about'));
      if (point !== undefined && name !== 'readers') tile.append(sparkline());
      tiles.append(tile);
    }
    put(tile.querySelector('.value'), value);
    put(tile.querySelector('.about'), note);
    if (point === null || point === undefined) return;
    const line = this.#lines.get(name) ?? [];
    this.#lines.set(name, line);
    line.push(point);
    if (line.length > KEPT) line.shift();
    trace(tile.querySelector('svg'), line);
  }

  // --------------------------------------------------------------------------------------- readers and videos

  #readers(readers, fair) {
    const sorted = readers.toSorted((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true }));
    part('operate-readers-count').textContent = sorted.length > FEW ? `the fullest ${FEW} of ${sorted.length}` : '';
    const shown = sorted.length > FEW ? readers.slice(0, FEW) : sorted;
    replaceList(part('operate-readers'), shown, (reader) => reader.id, readerRow, (row, reader) => fillReader(row, reader, fair(reader)));
    part('operate-readers-none').hidden = sorted.length > 0;
  }

  #videos({ videos, videos_watched: watched, videos_assigned: assigned, readers, capacity }) {
    part('operate-videos-sum').textContent = assigned > 0 ? `${plural(watched, 'video')} watched, ${exact(assigned)} placed` : '';
    part('operate-videos-none').hidden = videos.length > 0;
    const capacities = new Map(readers.map((reader) => [reader.id, reader.capacity]));
    // Not every reader is in the list: without one of a video's readers the bar is drawn to all of the capacity.
    const room = (video) => (video.readers.length > 0 && video.readers.every((id) => capacities.has(id)) ? video.readers.reduce((sum, id) => sum + capacities.get(id), 0) : capacity);
    replaceList(part('operate-videos'), videos.slice(0, FEW), (video) => video.videoid, videoRow, (row, video) => fillVideo(row, video, room(video)));
  }

  // ----------------------------------------------------------------------------------- lag, refusals, health

  #lag({ lag, freshness }) {
    const list = part('operate-lag');
    if (!lag) return list.replaceChildren(line('The stores do not answer', '', 'bad'));
    const late = lag.partitions.filter((partition) => partition.records > 0);
    const rows = [
      line('Log, not counted yet', plural(lag.records, 'record'), lag.records > 0 ? '' : 'good'),
      line('The oldest of them waits for', seconds(lag.waited_ms), lag.waited_ms > 5_000 ? 'bad' : 'good'),
      line('Counted, not on the boards yet', plural(lag.projection, 'record'), lag.projection > 0 ? '' : 'good'),
      line('From a request to the boards', freshness ? `${seconds(freshness.median_ms)}, at worst ${seconds(freshness.worst_ms)}` : 'not measured yet', freshness ? (freshness.worst_ms > 5_000 ? 'bad' : 'good') : ''),
      ...late.slice(0, 6).map((partition) => line(`Partition ${partition.partition}`, `${plural(partition.records, 'record')}, ${seconds(partition.waited_ms)}`)),
    ];
    return list.replaceChildren(...rows);
  }

  #refusals({ counts, rates }) {
    const rows = Object.entries(REFUSALS).filter(([name]) => counts[name] > 0);
    const found = rows.map(([name, words]) => line(words, `${exact(counts[name])} · ${rate(rates[name])}/s`, rates[name] > 0 ? 'bad' : ''));
    part('operate-refusals').replaceChildren(...(found.length > 0 ? found : [line('Nothing was refused', '', 'good')]));
  }

  #health({ parts }, placement) {
    const readers = placement.readers.map((reader) => ({
      name: reader.id,
      away: reader.state !== 'alive' || reader.unreachable,
      detail: reader.unreachable ? 'cannot be reached' : reader.state,
    }));
    const trouble = [
      ...(placement.hold ? [`Nothing is moved: ${placement.hold}.`] : []),
      ...(placement.unserved ? [`${plural(placement.unserved.requests, 'request')} of the last 10 s found no reader.`] : []),
      ...(placement.fresh === false ? ['The managers do not see their store: this is what they last saw.'] : []),
    ];
    const chip = ({ name, away, detail }) => {
      const one = element('li', away ? 'chip bad' : 'chip good');
      one.append(element('span', 'dot'), element('span', '', name), element('span', 'sr-only', away ? ' is away' : ' is well'));
      if (away && detail) one.append(element('small', '', detail));
      return one;
    };
    const all = [...parts, ...readers];
    part('operate-health').replaceChildren(...all.filter((one) => one.away).map(chip), ...all.filter((one) => !one.away).slice(0, 40).map(chip));
    part('operate-trouble').replaceChildren(...trouble.map((text) => element('li', '', text)));
    const away = all.filter((one) => one.away).length;
    part('operate-health-sum').textContent = away === 0 && trouble.length === 0 ? 'all well' : `${plural(away + trouble.length, 'thing')} to look at`;
  }
}

const EMPTY = {
  readers: [], readers_total: 0, viewers: 0, capacity: 0, videos: [], videos_watched: 0, videos_assigned: 0, moves: [], in_flight: 0, cordons: [],
  history: { times: [], readers: [], others: [] }, planner: { decisions: [] }, hold: 'no manager answers', unserved: null, fresh: true,
};

const DEMO = 'Viewers come, one video goes viral and is split, a reader is emptied. It takes 80 seconds and ends by itself.';

/** The demo, where there is one. */
function showDemo(demo) {
  part('demo').hidden = !demo;
  if (!demo) return;
  part('demo').dataset.running = demo.running;
  put(part('demo-start').querySelector('span'), demo.running ? 'Stop the demo' : 'Start the demo');
  part('demo-start').className = demo.running ? 'quiet' : 'primary';
  put(part('demo-text'), demo.running ? `${demo.step}.` : DEMO);
}

const clock = (at) => new Date(at).toLocaleTimeString('en-GB');

function lagWords({ records, waited_ms: waited, projection }) {
  if (records > 0) return `records, for ${seconds(waited)}`;
  return projection > 0 ? `boards ${plural(projection, 'record')} behind` : 'boards are up to date';
}

function put(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}

function line(name, value, mood = '') {
  const row = element('li', `fact ${mood}`);
  row.append(element('span', '', name), element('b', '', value));
  return row;
}

// ----------------------------------------------------------------------------------------------------- rows

function readerRow({ id }) {
  const row = element('li', 'load');
  const swatch = element('i', 'swatch');
  const name = element('b', 'name', id);
  name.title = id;
  const meter = element('span', 'bar');
  meter.append(element('i', 'fill'), element('i', 'fair'));
  row.append(swatch, name, element('span', 'number'), meter, element('small', 'state'), element('small', 'share'));
  return row;
}

function fillReader(row, reader, fair) {
  const { id, viewers, capacity, state, cordon, videos } = reader;
  const cell = (name) => row.querySelector(`.${name}`);
  cell('swatch').style.background = colourOf(id);
  put(cell('number'), `${exact(viewers)} of ${short(capacity)}`);
  const used = capacity > 0 ? Math.min(1, viewers / capacity) : 0;
  cell('fill').style.transform = `scaleX(${used})`;
  cell('fill').className = used > 0.9 ? 'fill full' : 'fill';
  cell('fair').style.left = `${Math.min(100, capacity > 0 ? (fair / capacity) * 100 : 0)}%`;
  cell('bar').title = `${percent(used)} of its capacity; its fair share is ${exact(Math.round(fair))}`;
  const takes = state === 'alive' && cordon === null;
  const words = { closed: 'takes no new videos', draining: 'is being emptied', removed: 'is removed' };
  put(cell('state'), `${takes ? plural(videos, 'video') : (words[cordon] ?? state)}${zoneWords(reader)}`);
  row.classList.toggle('warn', !takes);
  put(cell('share'), takes ? `fair share ${exact(Math.round(fair))}${away(viewers, fair)}` : '');
}

/** The reader's zone, and how many of its viewers came by a gateway of another one. */
function zoneWords({ zone, viewers_by_zone: viewers }) {
  if (!zone) return '';
  return ` · ${zone}${viewers?.other > 0 ? `, ${exact(viewers.other)} by other zones` : ''}`;
}

function away(viewers, fair) {
  if (fair < 1 || Math.abs(viewers - fair) < 1) return '';
  const off = viewers / fair - 1;
  return `, ${percent(Math.abs(off))} ${off > 0 ? 'above' : 'below'}`;
}

function videoRow({ videoid }) {
  const row = element('li', 'load');
  const name = element('a', 'name', videoid);
  name.href = `#${encodeURIComponent(videoid)}`;
  name.title = videoid;
  const meter = element('span', 'bar');
  meter.append(element('i', 'fill'));
  row.append(element('i', 'swatch'), name, element('span', 'number'), meter, element('small', 'state'));
  return row;
}

/** `room` is the capacity of the readers that serve the video. */
function fillVideo(row, { viewers, readers, moving }, room) {
  row.querySelector('.swatch').style.background = readers.length > 0 ? colourOf(readers[0]) : '';
  put(row.querySelector('.number'), exact(viewers));
  const used = room > 0 ? Math.min(1, viewers / room) : 0;
  row.querySelector('.fill').style.transform = `scaleX(${used})`;
  row.querySelector('.fill').className = used > 0.9 ? 'fill full' : 'fill';
  const where = readers.length > 3 ? `${plural(readers.length, 'reader')}` : readers.join(', ');
  put(row.querySelector('.state'), `${where} · ${percent(used)} of ${readers.length > 1 ? 'their' : 'its'} capacity${moving ? ' · viewers on their way' : ''}`);
}

// ---------------------------------------------------------------------------------------------------- lines

const SVG = 'http://www.w3.org/2000/svg';

function sparkline() {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 100 24');
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('aria-hidden', 'true');
  svg.append(document.createElementNS(SVG, 'polyline'));
  return svg;
}

function trace(svg, points) {
  const most = Math.max(...points, 1);
  // The latest is at the right edge, also while little is known.
  const unknown = KEPT - points.length;
  // One or two points are no line.
  if (points.length < 3) return;
  const at = (value, index) => `${((index + unknown) / (KEPT - 1)) * 100},${23 - (value / most) * 21}`;
  svg.firstChild.setAttribute('points', points.map(at).join(' '));
}
