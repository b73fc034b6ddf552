/** The console page: ties the ranking, the open video, its comments, the readers and the state of the connection together. */

import { Liverank } from './liverank.js';
import { AuditLog } from './console-audit.js';
import { BoardChoice } from './console-boards.js';
import { CommentsView } from './console-comments.js';
import { Moderation } from './console-moderation.js';
import { FindField } from './console-find.js';
import { Held } from './console-held.js';
import { OperateView } from './console-operate.js';
import { Pins } from './console-pins.js';
import { RankingDepth } from './console-depth.js';
import { RankHistory } from './console-rank.js';
import { RankingView } from './console-ranking.js';
import { ReadersView } from './console-readers.js';
import { Reports } from './console-reports.js';
import { Session } from './console-session.js';
import { StateView } from './console-state.js';
import { sendSample } from './console-sample.js';

/** Videos of a window that has ended, which is read and not followed. */
const SHOWN = 50;
/** The open video's figures are read again at most this often, in ms. */
const FIGURES_MS = 500;
/** … and at least this often, in ms, for its viewers. */
const POLL_MS = 2_000;
/** How long a page may be hidden before it gives its comment stream back (a browser has six connections an origin), in ms. */
const HIDDEN_MS = 60_000;
/** A screen is narrow when the rooms stand below each other. */
const narrow = matchMedia('(max-width: 699px)');

const numbers = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const part = (id) => document.getElementById(id);
const liverank = new Liverank({ token: () => session.token });

let open = null;
let stream = null;
/** Reads the list of a window that has ended, until it is final. */
let reading = null;
let videos = [];
/** Whose videos the ranking shows in place of a board. */
let owner = new URLSearchParams(location.search).get('owner') || null;

// ------------------------------------------------------------------------------------------------------- the user

const nameField = part('user-name');
/** A token says who its user is; without one everybody chooses a name. */
const user = () => session.user ?? (nameField.value.trim() || remembered());
nameField.addEventListener('change', () => {
  nameField.value = nameField.value.trim() || remembered();
  try {
    localStorage.setItem('liverank.name', nameField.value);
  } catch {
    // A browser that keeps nothing still shows everything.
  }
});

const session = new Session({
  onChange: () => {
    liverank.forgetToken();
    showUser();
    state.reset();
    follow();
    comments.restart();
    boards.refresh();
    readers.refresh();
    operate.refresh();
    offerModeration();
  },
});

function showUser() {
  nameField.value = session.user ?? remembered();
  nameField.readOnly = session.user !== null;
}

function remembered() {
  const guest = `guest-${Math.random().toString(36).slice(2, 6)}`;
  try {
    const name = localStorage.getItem('liverank.name') || guest;
    localStorage.setItem('liverank.name', name);
    return name;
  } catch {
    return guest;
  }
}

// ---------------------------------------------------------------------------------------------- connection, rooms

const state = new StateView({
  onRetry: () => {
    stream?.retryNow();
    comments.retryNow();
  },
  onSignIn: () => session.ask(),
  onRefused: () => {
    session.offer();
    part('ranking-loading').firstElementChild.textContent = 'There is no ranking to show.';
  },
});
const pins = new Pins(liverank, { moderates: () => session.moderates, onDone: (text, bad) => note(text, bad) });
const comments = new CommentsView(liverank, {
  user,
  pins,
  mayDelete: ({ userid }) => session.token !== null && (session.moderates || session.user === userid),
  moderate: (comment) => (session.moderates && comment.userid !== session.user ? () => moderation.ask(comment) : null),
  onState: (now) => {
    state.set('comments', now);
    if (now?.state === 'live') stream?.retryNow();
  },
});
const onDone = (text) => note(text);
const moderation = new Moderation(liverank, { onDone });
const dialogs = [moderation, new Reports(liverank, { onDone }), new Held(liverank, { onDone }), new AuditLog(liverank)];
/** Shows what moderators have, or hides it. */
function offerModeration() {
  for (const dialog of dialogs) dialog.offer(session.moderates);
}
offerModeration();
const ranking = new RankingView(part('ranking-list'), {
  onOpen: (id) => {
    openVideo(id);
    if (narrow.matches) part('video-panel').scrollIntoView({ block: 'start' });
  },
});
const depth = new RankingDepth(ranking, { narrow, onDeeper: () => followAnew() });
const find = new FindField(ranking, { shown: () => (videos.length > SHOWN ? depth.limit : SHOWN), onOpen: (id) => openVideo(id) });
const ranks = new RankHistory(part('rank-history'));
const readers = new ReadersView(liverank, { paused: () => document.hidden || state.lost });

/** `fetch` with what shows who asks. */
const ask = (path, { headers = {}, ...init } = {}) =>
  fetch(path, { ...init, headers: session.token === null ? headers : { ...headers, authorization: `Bearer ${session.token}` } });
const operate = new OperateView({ ask, session });

// ----------------------------------------------------------------------------------------------------------- tabs

/** The tab that is open stands in the address, so that it can be kept and sent. */
function openTab(name) {
  for (const tab of ['watch', 'operate']) {
    part(tab).hidden = tab !== name;
    if (tab === name) part(`tab-${tab}`).setAttribute('aria-current', 'page');
    else part(`tab-${tab}`).removeAttribute('aria-current');
  }
  const address = new URL(location.href);
  if (name === 'operate') address.searchParams.set('tab', name);
  else address.searchParams.delete('tab');
  history.replaceState(null, '', address);
  operate.show(name === 'operate');
}
for (const tab of ['watch', 'operate']) part(`tab-${tab}`).addEventListener('click', () => openTab(tab));
// A video in the Operate tab leads to the video.
part('operate').addEventListener('click', (event) => {
  if (event.target.closest('a[href^="#"]')) openTab('watch');
});

addEventListener('online', () => {
  stream?.retryNow();
  comments.retryNow();
});
let hiding = null;
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => comments.suspend(), HIDDEN_MS);
  else comments.resume();
});

// -------------------------------------------------------------------------------------------------------- ranking

/** How often the list of a window is read that has ended and is not final yet, in ms. */
const SETTLING_MS = 5_000;

const boards = new BoardChoice(liverank, {
  onChoose: () => {
    setOwner(null);
    follow();
  },
});

function follow() {
  ranking.clear();
  ranks.clear();
  followAnew();
}

/** Follows the list that is chosen, to the depth that is asked for; what is shown of it stays until the first answer. */
function followAnew() {
  stream?.close();
  stream = null;
  clearTimeout(reading);
  const { board, window } = boards.chosen;
  if (owner !== null) followOwner(owner);
  else if (window === null) followBoard(board);
  else {
    state.set('ranking', null);
    readWindow(boards.chosen);
  }
}

/** A window that has ended is read and not followed: it changes no more once it is final. */
async function readWindow(chosen) {
  const page = await liverank.videos({ ...chosen, limit: SHOWN }).catch((error) => error);
  if (chosen !== boards.chosen) return;
  if (page instanceof Error) {
    // It is not kept any more, or never was.
    if (page.status === 404) boards.refresh();
    else reading = setTimeout(() => readWindow(chosen), SETTLING_MS);
    return;
  }
  showRanking(page.videos);
  boards.note(page.window);
  if (page.window.state !== 'final') reading = setTimeout(() => readWindow(chosen), SETTLING_MS);
}

function followBoard(board) {
  const asked = { board: board === 'global' ? undefined : board, limit: depth.limit };
  followList((listen) => liverank.ranking({ ...asked, ...listen }), (list) => list);
}

function followOwner(name) {
  const withOwner = (list) => list.map((video) => ({ ...video, user_id: name }));
  followList((listen) => liverank.userRanking(name, { limit: depth.limitOfOwner, ...listen }), withOwner);
}

function followList(begin, shown) {
  const mine = begin({
    onList: (list) => showRanking(shown(list.slice(0, depth.limit))),
    onState: (now) => {
      if (mine !== stream) return;
      state.set('ranking', now);
      // Whoever notices first that the server is back tells the other.
      if (now.state === 'live') comments.retryNow();
    },
  });
  stream = mine;
}

/** Shows an owner's videos in place of the board, or the board again; whose they are stands in the address. */
function setOwner(name) {
  owner = name;
  part('owner-note').hidden = name === null;
  part('owner-name').textContent = name ?? '';
  const address = new URL(location.href);
  if (name === null) address.searchParams.delete('owner');
  else address.searchParams.set('owner', name);
  history.replaceState(null, '', address);
  find.clear();
}

part('owner-open').addEventListener('click', () => {
  setOwner(part('owner-open').textContent);
  follow();
  if (narrow.matches) part('ranking-title').scrollIntoView({ block: 'start' });
});
part('owner-close').addEventListener('click', () => {
  setOwner(null);
  follow();
  part('find').focus();
});

function showRanking(list) {
  const score = (from) => from.find((video) => video.video_id === open)?.score;
  const changed = score(list) !== score(videos);
  videos = list;
  ranking.show(list);
  ranks.add(list);
  find.offer(list);
  part('ranking-loading').hidden = true;
  part('ranking-empty').hidden = list.length > 0 || !boards.isBuiltIn || owner !== null;
  part('ranking-none').hidden = list.length > 0 || (boards.isBuiltIn && owner === null);
  part('ranking-none').firstElementChild.textContent = owner === null ? 'No video is on this board.' : 'This user has no ranked video.';
  part('sample-again').hidden = list.length === 0;
  depth.offer(list.length, boards.chosen.window === null || owner !== null);
  if (open === null && list.length > 0) openVideo(list[0].video_id);
  if (changed) figures.refresh();
}

// ------------------------------------------------------------------------------------------------- the open video

/** The figures of the open video: read when its score moves and while somebody looks, never two reads at a time. */
const figures = {
  timer: null,
  reading: false,
  readAt: -Infinity,
  async read() {
    const video = open;
    this.reading = true;
    const found = await liverank.video(video).catch((error) => (error.status === 404 ? {} : null));
    this.reading = false;
    this.readAt = performance.now();
    if (video !== open) return this.refresh();
    if (found) this.show(found);
    // Viewers come and go without moving the score; a video outside the list is asked about when something happens to it.
    if (!this.timer && videos.some((other) => other.video_id === open)) this.later(POLL_MS);
    return undefined;
  },
  /** Reads soon: at once, or when the last read is long enough ago. */
  refresh() {
    if (open !== null && !this.reading) this.later(Math.max(0, this.readAt + FIGURES_MS - performance.now()));
  },
  later(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      if (document.hidden || state.lost) this.later(POLL_MS);
      else this.read();
    }, ms);
  },
  show(video) {
    part('by-owner').hidden = !video.user_id;
    part('owner-open').textContent = video.user_id ?? '';
    for (const cell of document.querySelectorAll('[data-figure]')) {
      const value = video[cell.dataset.figure] ?? 0;
      cell.textContent = cell.dataset.figure === 'watch_time_total' ? duration(value) : numbers.format(value);
    }
  },
};

function duration(seconds) {
  if (seconds < 120) return `${numbers.format(seconds)} s`;
  return seconds < 7_200 ? `${numbers.format(seconds / 60)} min` : `${numbers.format(seconds / 3_600)} h`;
}

/** Opens a video; `now` unless something is about to happen to it that its figures should wait for. */
function openVideo(id, { now = true } = {}) {
  part('video-id').value = id;
  if (id === open) return;
  open = id;
  ranking.select(id);
  ranks.open(id);
  part('by-owner').hidden = true;
  comments.open(id);
  for (const cell of document.querySelectorAll('[data-figure]')) cell.textContent = '–';
  note('');
  figures.readAt = now ? -Infinity : performance.now();
  if (now) figures.refresh();
  document.title = `${id} · liverank`;
  history.replaceState(null, '', `${location.search}#${encodeURIComponent(id)}`);
}

part('open-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const id = part('video-id').value.trim();
  if (id !== '') openVideo(id);
});
addEventListener('hashchange', openFromAddress);

function openFromAddress() {
  try {
    const id = decodeURIComponent(location.hash.slice(1));
    if (id !== '') openVideo(id);
  } catch {
    // A hand-written address that is no valid escape opens nothing.
  }
}

// --------------------------------------------------------------------------------------------------- interactions

const DONE = { view: 'View', like: 'Like', share: 'Share', watch_time: 'Watch time' };

for (const button of document.querySelectorAll('[data-send]')) {
  button.addEventListener('click', () => send(button.dataset.send));
}

async function send(type) {
  const field = part('video-id');
  const id = field.value.trim();
  const seconds = part('watch-seconds');
  if (!field.reportValidity() || (type === 'watch_time' && !seconds.reportValidity())) return;
  if (id === '') return;
  openVideo(id, { now: false });
  const event = { video_id: id, user_id: user(), type };
  if (type === 'watch_time') event.watch_time = Number(seconds.value);
  const began = performance.now();
  try {
    await liverank.interact(event, { onRetry: () => note(`${DONE[type]} waits for the server…`) });
    note(`${DONE[type]} for ${id} is in the log, after ${Math.round(performance.now() - began)} ms.`);
    figures.refresh();
  } catch (error) {
    note(`${DONE[type]} was not taken: ${error.message}`, true);
  }
}

function note(text, bad = false) {
  part('send-note').textContent = text;
  part('send-note').classList.toggle('bad', bad);
}

for (const id of ['sample', 'sample-again']) {
  part(id).addEventListener('click', async (event) => {
    const button = event.currentTarget;
    if (button.ariaDisabled === 'true') return;
    button.ariaDisabled = 'true';
    const { sent, failed } = await sendSample(liverank, { as: session.user });
    button.ariaDisabled = 'false';
    note(failed ? `Sample traffic stopped after ${sent}: ${failed.message}` : `${sent} sample interactions and comments are in the log.`, Boolean(failed));
  });
}

showUser();
if (owner !== null) setOwner(owner);
openFromAddress();
if (boards.isBuiltIn) {
  follow();
  boards.refresh();
} else {
  // The address may name a board that there is not: which there are has to be known first.
  boards.refresh().then(follow);
}
if (new URLSearchParams(location.search).get('tab') === 'operate') openTab('operate');
