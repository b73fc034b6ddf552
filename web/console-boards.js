/** Which board the ranking shows: one of the two that there always are, one that was declared, or a window of it. */

import { element } from './console-format.js';

/** The names of the boards that there always are. */
const TITLES = { global: 'All time', trending: 'Trending' };
/** A list of boards that could not be read is asked for again after this long, in ms. */
const RETRY_MS = 10_000;
/** The server's clock and ours may be apart: what ended is asked for a little later, in ms. */
const AFTER_END_MS = 1_500;
/** The longest time that a timer can wait, in ms. */
const LONGEST_MS = 2 ** 31 - 1;

const numbers = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const part = (id) => document.getElementById(id);

export class BoardChoice {
  #liverank;
  #onChoose;
  #boards = [];
  #chosen;
  #timer = null;

  /** `onChoose` is told when another board or window is chosen. */
  constructor(liverank, { onChoose }) {
    this.#liverank = liverank;
    this.#onChoose = onChoose;
    const address = new URLSearchParams(location.search);
    this.#chosen = { board: address.get('board') ?? 'global', window: address.get('window') };
    for (const choice of document.querySelectorAll('input[name="board"]')) {
      choice.checked = choice.value === this.#chosen.board;
      choice.addEventListener('change', () => this.#choose(choice.value, null));
    }
    part('board-select').addEventListener('change', (event) => this.#choose(event.target.value, null));
    part('window-select').addEventListener('change', (event) => this.#choose(this.#chosen.board, event.target.value || null));
  }

  /** What is chosen: `{board, window}`, where `window` is null for a board without windows and for the one that runs. */
  get chosen() {
    return this.#chosen;
  }

  /** Whether it is one of the boards that there always are, on which every video is. */
  get isBuiltIn() {
    return Object.hasOwn(TITLES, this.#chosen.board);
  }

  /** Asks which boards there are. */
  async refresh() {
    clearTimeout(this.#timer);
    try {
      this.#boards = (await this.#liverank.boards()).boards;
    } catch (error) {
      // A gateway of a release before has no such list, and no board but the two.
      if (error.status !== 404) this.#later(RETRY_MS);
      return;
    }
    const known = this.#boards.find((board) => board.name === this.#chosen.board);
    const isKept = (name) => known?.windows?.ended.some((window) => window.name === name);
    if (!known) this.#choose('global', null);
    else if (this.#chosen.window !== null && !isKept(this.#chosen.window)) this.#choose(this.#chosen.board, null);
    this.#show();
    const ends = this.#boards.flatMap((board) => (board.windows ? [board.windows.running.end] : []));
    const isSettling = this.#boards.some((board) => board.windows?.ended.some((window) => window.state !== 'final'));
    if (ends.length > 0) this.#later(Math.min(Math.max(Math.min(...ends) - Date.now(), 0) + AFTER_END_MS, isSettling ? RETRY_MS : LONGEST_MS));
  }

  /** Takes in what a list said of the window that it is of. */
  note(window) {
    const ended = this.#board?.windows?.ended;
    const at = ended?.findIndex((known) => known.name === window.name) ?? -1;
    if (at < 0) return;
    ended[at] = window;
    this.#show();
  }

  get #board() {
    return this.#boards.find((board) => board.name === this.#chosen.board);
  }

  #later(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.refresh(), ms);
  }

  #choose(board, window) {
    this.#chosen = { board, window };
    const address = new URL(location.href);
    const set = (name, value) => (value === null ? address.searchParams.delete(name) : address.searchParams.set(name, value));
    set('board', board === 'global' ? null : board);
    set('window', window);
    history.replaceState(null, '', address);
    this.#show();
    this.#onChoose();
  }

  #show() {
    const { board, window } = this.#chosen;
    for (const choice of document.querySelectorAll('input[name="board"]')) choice.checked = choice.value === board;
    const known = this.#board;
    const declared = this.#boards.some((other) => other.declared);
    part('board-segments').hidden = declared;
    part('board-choice').hidden = !declared;
    if (!declared || !known) return;
    fillSelect(part('board-select'), this.#boards.map(({ name }) => [name, TITLES[name] ?? name]), board);
    part('window-select').hidden = known.windows === null;
    if (known.windows) fillSelect(part('window-select'), windowOptions(known.windows), window ?? '');
    const text = described(known, window);
    part('board-note').hidden = text === '';
    part('board-note').textContent = text;
  }
}

/** Makes a select's options these, `[value, text]`; one that is open keeps its elements, for a new element would close it. */
function fillSelect(select, options, value) {
  const is = [...select.options].map((option) => [option.value, option.text]);
  if (JSON.stringify(is) !== JSON.stringify(options)) {
    if (is.length === options.length && is.every(([known], at) => known === options[at][0])) {
      options.forEach(([, text], at) => (select.options[at].text = text));
    } else {
      select.replaceChildren(...options.map(([known, text]) => Object.assign(element('option', '', text), { value: known })));
    }
  }
  select.value = value;
}

function windowOptions({ running, ended }) {
  return [['', `${running.name} · running`], ...ended.map((window) => [window.name, `${window.name} · ${window.state}`])];
}

/** What is on a board, in a sentence. */
function described({ order, declared, half_life_seconds: halfLife, category, minimum, windows }, window) {
  if (!declared) return '';
  const said = [order === 'trending' ? `Points that halve every ${duration(halfLife)}` : 'Points'];
  if (windows) said[0] += ` of a${windows.unit === 'hour' ? 'n' : ''} ${windows.unit} (${windows.time_zone})`;
  if (category !== null) said.push(`category ${category}`);
  if (minimum > 0) said.push(`from ${numbers.format(minimum)} on`);
  const shown = windows && (windows.ended.find(({ name }) => name === window) ?? windows.running);
  if (shown?.state === 'final') said.push('the final result');
  if (shown?.state === 'ended') said.push('ended, the last events may still come');
  if (shown?.whole === false) said.push('not all of it is counted');
  return `${said.join(', ')}.`;
}

function duration(seconds) {
  if (seconds === null) return 'half-life';
  if (seconds < 5_400) return `${numbers.format(seconds / 60)} min`;
  return seconds < 172_800 ? `${numbers.format(seconds / 3_600)} h` : `${numbers.format(seconds / 86_400)} days`;
}
