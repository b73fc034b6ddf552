/** Moves, splits and drains as they happen, and what the planner decided. */

import { element, exact, percent, plural, replaceList, seconds } from './console-format.js';

const KINDS = { split: 'Split', merge: 'Merge', move: 'Move', reshare: 'Shares', swap: 'Swap', join: 'Merge', place: 'Place', drain: 'Drain' };
const PHASES = { waiting: 'waits for the budget', warming: 'new readers get ready', handing_over: 'viewers go over', done: 'done', failed: 'given up' };
const BOUNDS = {
  budget: 'the viewers that may move in a minute',
  capacity: 'the readers’ capacity',
  noOpenReader: 'no reader is open',
  rest: 'videos that changed a moment ago',
  granularity: 'videos too large to even the readers out',
  maxReaders: 'videos on as many readers as may be',
  safetyOnly: 'rebalancing is paused',
};
/** Moves that are shown. */
const SHOWN = 12;
/** Screen readers hear of a new move at most this often, in ms. */
const ANNOUNCE_MS = 5_000;
/** A move is new for this long, in ms. */
const NEW_MS = 8_000;

const keyOf = (move) => `${move.id} ${move.videoid} ${move.epoch} ${move.why}`;
const kindOf = (move) => KINDS[move.by === 'drain' ? 'drain' : move.kind] ?? move.kind;
const names = (shares) => (shares.length > 3 ? plural(shares.length, 'reader') : shares.map((share) => share.reader).join(', ') || 'nobody');

let announced = 0;
let heard = null;

/** Brings the list of moves up to date. */
export function showMoves(placement, list, announcer) {
  const { moves, viewers_per_minute: perMinute } = placement;
  replaceList(document.getElementById('operate-drains'), drainsOf(placement), (drain) => drain.id, drainRow, fillDrain);
  replaceList(list, moves.slice(0, SHOWN), keyOf, moveRow, fillMove);
  document.getElementById('operate-moves-none').hidden = moves.length > 0;
  document.getElementById('operate-budget').textContent = perMinute ? `at most ${exact(perMinute)} viewers a minute` : '';
  announce(moves, announcer);
}

/** The readers that are being emptied, each with its reason, and with the viewers that it had before. */
function drainsOf({ readers, cordons, history }) {
  const emptied = readers.filter((reader) => reader.state !== 'gone' && (reader.cordon === 'draining' || reader.state === 'leaving'));
  return emptied.map(({ id, viewers, state }) => {
    const ordered = cordons.find((cordon) => cordon.reader === id)?.why;
    return { id, viewers, before: viewersBefore(history, id, viewers), why: ordered || (state === 'leaving' ? 'its process ends' : '') };
  });
}

/** The viewers of a reader when they began to leave: the last peak in its history. */
function viewersBefore(history, id, left) {
  const counts = history.readers.find((reader) => reader.id === id)?.viewers ?? [];
  let most = left;
  for (let at = counts.length - 1; at >= 0 && counts[at] >= most; at -= 1) most = counts[at];
  return most;
}

function drainRow() {
  const row = element('li', 'drain');
  const bar = element('span', 'bar');
  bar.append(element('i', 'fill'));
  row.append(element('span', 'text'), element('small', 'why'), bar);
  return row;
}

function fillDrain(row, { id, viewers, before, why }) {
  const put = (name, text) => {
    const cell = row.querySelector(`.${name}`);
    if (cell.textContent !== text) cell.textContent = text;
  };
  const gone = before > 0 ? `: ${plural(before, 'viewer')} went over` : '';
  put('text', viewers > 0 ? `${id} is being emptied: ${exact(viewers)} of ${plural(before, 'viewer')} left` : `${id} is empty, and closed${gone}`);
  put('why', why);
  row.classList.toggle('done', viewers === 0);
  row.querySelector('.fill').style.transform = `scaleX(${before > 0 ? 1 - viewers / before : 1})`;
}

function announce(moves, announcer) {
  heard ??= new Set(moves.map(keyOf));
  const fresh = moves.filter((move) => !heard.has(keyOf(move)));
  if (fresh.length === 0 || Date.now() - announced < ANNOUNCE_MS) return;
  announced = Date.now();
  heard = new Set(moves.map(keyOf));
  const [first] = fresh;
  announcer.textContent = fresh.length === 1 ? `${kindOf(first)} of ${first.videoid}: ${plural(first.viewers, 'viewer')} to ${names(first.to)}` : `${fresh.length} new moves`;
}

function moveRow(move) {
  const row = element('li', 'move-row');
  const kind = kindOf(move);
  row.append(element('span', `badge badge-${kind.toLowerCase()}`, kind));
  const video = element('b', 'name', move.videoid);
  video.title = move.videoid;
  row.append(video, element('span', 'age'), element('span', 'way'), element('span', 'cost'));
  const bar = element('span', 'bar');
  bar.append(element('i', 'fill'));
  row.append(bar, element('small', 'why'));
  return row;
}

function fillMove(row, move) {
  const cell = (name) => row.querySelector(`.${name}`);
  const put = (name, text) => {
    if (cell(name).textContent !== text) cell(name).textContent = text;
  };
  const phase = PHASES[move.state] ?? move.state;
  put('age', `${seconds(move.age_ms)} ago`);
  put('way', `${names(move.from)} → ${names(move.to)}`);
  const over = move.viewers > 0 ? Math.max(0, move.viewers - move.left) : 0;
  put('cost', move.state === 'handing_over' ? `${exact(over)} of ${plural(move.viewers, 'viewer')} over` : `${plural(move.viewers, 'viewer')}, ${phase}`);
  const share = move.state === 'done' ? 1 : move.viewers > 0 && move.state === 'handing_over' ? over / move.viewers : 0;
  cell('fill').style.transform = `scaleX(${share})`;
  const why = move.why.replace(/^[a-z]+: /, '');
  put('why', move.detail ? `${why}; ${move.detail}` : why);
  row.classList.toggle('failed', move.state === 'failed');
  row.classList.toggle('going', ['waiting', 'warming', 'handing_over'].includes(move.state));
  row.classList.toggle('new', move.age_ms < NEW_MS);
}

const ACTIONS = { ScaleUp: 'More readers', ScaleDown: 'Fewer readers', Hold: 'Nothing is done', None: 'Nothing to do', Upgrade: 'Readers are replaced', Rebalance: 'Videos are moved' };
/** Decisions of a planner outside that are listed below the last one. */
const EARLIER = 6;

/** What the planner decided last: what bound it, what it rejected, and what the last one did that did something. */
export function showPlanner({ decisions = [], outside = [], holder, leading }, now, root) {
  const head = root.querySelector('.about');
  head.textContent = holder ? `${leading ? 'The managers plan' : 'Planned outside of the managers'} (${holder})` : 'Nobody plans: readers are only replaced and emptied.';
  // Whoever plans now is shown; one that has ended is not.
  if (!leading && holder && outside.length > 0) return root.querySelector('.decision').replaceChildren(...outsideBlocks(outside, now));
  const [last] = decisions;
  const acted = decisions.find((decision) => decision.chosen_total > 0);
  const body = root.querySelector('.decision');
  if (!last) return body.replaceChildren(element('p', 'none', 'No decision of a planner in the managers is known.'));
  const blocks = [decisionBlock('Last look', last, now)];
  if (acted && acted !== last) blocks.push(decisionBlock('Last change', acted, now));
  return body.replaceChildren(...blocks);
}

function decisionBlock(title, decision, now) {
  const block = element('section');
  const head = element('h3', '', `${title}, ${seconds(Math.max(0, now - decision.at))} ago`);
  const facts = element('ul', 'facts');
  const fact = (name, value) => {
    const row = element('li', 'fact');
    row.append(element('span', '', name), element('b', '', value));
    facts.append(row);
  };
  fact('Looked at', `${plural(decision.readers, 'reader')}, ${plural(decision.videos, 'video')}`);
  fact('Fullest reader, of its fair share', `${ratio(decision.before.max_over_mean)}${decision.chosen_total > 0 ? ` → ${ratio(decision.after.max_over_mean)}` : ''}`);
  fact('Outside the tolerance', `${plural(decision.before.outside, 'reader')}${decision.chosen_total > 0 ? ` → ${decision.after.outside}` : ''}`);
  fact('Orders', decision.chosen_total === 0 ? 'none needed' : `${exact(decision.chosen_total)}, for ${plural(decision.moved, 'viewer')}`);
  fact('Might have moved', plural(decision.budget, 'viewer'));
  if (decision.bound_by.length > 0) fact('Bound by', decision.bound_by.map((bound) => BOUNDS[bound] ?? bound).join('; '));
  block.append(head, facts);
  block.append(...lines('Ordered', decision.chosen.map((it) => `${KINDS[it.kind] ?? it.kind} of ${it.videoid}: ${it.why}`)));
  block.append(...lines('Rejected', decision.rejected));
  return block;
}

/** What a planner outside of the managers decided, as the operator on Kubernetes: the last one with its reasons. */
function outsideBlocks([last, ...before], now) {
  const block = element('section');
  block.append(element('h3', '', `${ACTIONS[last.action] ?? last.action}, ${seconds(Math.max(0, now - last.at))} ago`), element('p', 'reason', last.reason));
  block.append(...lines('Bound by', last.bound_by ?? []), ...lines('Ordered', last.chosen ?? []), ...lines('Rejected', last.rejected ?? []));
  if (before.length === 0) return [block];
  const earlier = before.slice(0, EARLIER).map(({ at, action, reason }) => `${ACTIONS[action] ?? action}, ${seconds(Math.max(0, now - at))} ago: ${reason}`);
  return [block, ...lines('Before', earlier)];
}

const ratio = (millionths) => (millionths > 0 ? percent(millionths / 1_000_000) : '–');

/** A list behind its title, to be unfolded where it is long. */
export function lines(title, texts) {
  if (texts.length === 0) return [];
  const details = element('details');
  details.open = texts.length <= 2;
  details.append(element('summary', '', `${title}: ${texts.length}`));
  const list = element('ul', 'reasons');
  list.append(...texts.map((text) => element('li', '', text)));
  details.append(list);
  return [details];
}
