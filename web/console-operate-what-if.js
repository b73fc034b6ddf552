/** What the planner would do with other readers, or with a video that many come to watch: the real one is asked. */

import { colourOf } from './console-operate-chart.js';
import { lines } from './console-operate-moves.js';
import { element, exact, percent, plural } from './console-format.js';

const part = (id) => document.getElementById(id);
/** Readers of an answer that are shown. */
const SHOWN = 12;

export class WhatIf {
  #ask;

  constructor(ask) {
    this.#ask = ask;
    part('what-if').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** Takes over what is so now, for the fields' hints. */
  know({ videos }, readers) {
    part('what-if-readers').placeholder = String(readers);
    const known = videos.slice(0, 20).map(({ videoid }) => videoid);
    const options = part('what-if-videos');
    if ([...options.children].map(({ value }) => value).join('\n') !== known.join('\n')) {
      options.replaceChildren(...known.map((value) => Object.assign(element('option'), { value })));
    }
  }

  async #submit() {
    const [readers, viewers] = ['what-if-readers', 'what-if-viewers'].map((id) => part(id).valueAsNumber);
    const video = part('what-if-video').value.trim();
    const question = {};
    if (readers > 0) question.readers = readers;
    if (viewers > 0) {
      if (video === '') return this.#say('Which video? Type its id, or a new one.');
      question.videos = [{ videoid: video, viewers }];
    }
    if (Object.keys(question).length === 0) return this.#say('Change the readers, or let viewers come to a video.');
    this.#say('The planner is asked…');
    try {
      const response = await this.#ask('/operate/what-if', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(question),
        signal: AbortSignal.timeout(15_000),
      });
      const answer = await response.json();
      if (!response.ok) return this.#say(`The planner was not asked: ${answer.detail ?? response.status}`);
      return this.#show(answer);
    } catch (error) {
      return this.#say(`The planner was not asked: ${error.message}`);
    }
  }

  #say(text) {
    part('what-if-answer').replaceChildren(element('p', 'note', text));
  }

  #show({ minutes, settled, moved, readers }) {
    const working = minutes.filter((minute) => minute.orders_total > 0);
    const last = minutes.at(-1);
    const room = last.after.waiting > 0 ? ` ${plural(last.after.waiting, 'viewer')} would find no room.` : '';
    const outside = last.after.outside > 0 ? ` ${plural(last.after.outside, 'reader')} would stay outside of the tolerance.` : '';
    const sentence = working.length === 0
      ? `The planner would do nothing.${room}${outside}`
      : `${plural(working.reduce((sum, minute) => sum + minute.orders_total, 0), 'order')} within ${plural(minutes.indexOf(working.at(-1)) + 1, 'minute')}: ${plural(moved, 'viewer')} would move.${settled ? '' : ' It would not be done after that.'}${room}${outside}`;
    const list = element('ul', 'loads');
    for (const reader of readers.slice(0, SHOWN)) list.append(row(reader));
    const more = readers.length > SHOWN ? [element('p', 'note', `and ${readers.length - SHOWN} more readers`)] : [];
    const orders = minutes.flatMap((minute, index) => minute.orders.map((order) => `${minutes.length > 2 ? `Minute ${index + 1}: ` : ''}${order.kind} of ${order.videoid}: ${order.why}`));
    // What was put off only is done by then.
    const rejected = last.rejected;
    part('what-if-answer').replaceChildren(element('p', 'sentence', sentence), list, ...more, ...lines('Orders', orders), ...lines('Rejected', rejected));
  }
}

function row({ id, before, after, capacity, standing }) {
  const item = element('li', 'load');
  const swatch = element('i', 'swatch');
  swatch.style.background = colourOf(id);
  const bar = element('span', 'bar');
  const fill = element('i', 'fill');
  const used = capacity > 0 ? after / capacity : 0;
  fill.style.transform = `scaleX(${Math.min(1, used)})`;
  if (used > 0.9) fill.className = 'fill full';
  bar.append(fill);
  const name = element('b', 'name', id);
  const words = standing === 'draining' ? 'is emptied' : `${percent(used)} of its capacity`;
  item.append(swatch, name, element('span', 'number', `${exact(before)} → ${exact(after)}`), bar, element('small', 'state', words));
  return item;
}
