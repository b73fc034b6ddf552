/** The readers with their viewers, from `GET /statistics`: now, and over the last minutes. */

import { HistoryChart } from './console-history.js';

const POLL_MS = 2_000;
/** More readers than this are summed up in a line, so that a large system does not fill the page. */
const SHOWN = 24;

const numbers = new Intl.NumberFormat('en');
const percent = new Intl.NumberFormat('en', { style: 'percent', maximumFractionDigits: 1 });
const plural = (count, one, many = `${one}s`) => `${numbers.format(count)} ${count === 1 ? one : many}`;

export class ReadersView {
  #liverank;
  #list = document.getElementById('reader-list');
  #sum = document.getElementById('readers-sum');
  #empty = document.getElementById('readers-empty');
  #chart = new HistoryChart(document.getElementById('readers-history'));
  #sent = new Map();
  #rates = new Map();
  #paused;
  #timer = null;

  /** `paused()` says when there is no point in asking: the page is hidden, the server is away. */
  constructor(liverank, { paused }) {
    this.#liverank = liverank;
    this.#paused = paused;
    this.#poll();
  }

  /** Asks again now. */
  refresh() {
    clearTimeout(this.#timer);
    this.#poll(true);
  }

  async #poll(anyway = false) {
    if (anyway || !this.#paused()) {
      await this.#liverank.statistics().then(
        (statistics) => this.#show(statistics.readerApis),
        () => this.#list.classList.add('stale'),
      );
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#poll(), POLL_MS);
  }

  #show({ readers, totalReaders = readers.length, totalActiveConnections }) {
    const sorted = readers.toSorted((a, b) => a.instanceId.localeCompare(b.instanceId, 'en', { numeric: true }));
    const viewers = totalActiveConnections ?? sorted.reduce((sum, reader) => sum + reader.activeConnections, 0);
    const room = sorted.reduce((sum, reader) => sum + (reader.capacity ?? NaN), 0);
    this.#measure(sorted);
    this.#list.classList.remove('stale');
    this.#list.replaceChildren(...sorted.slice(0, SHOWN).map((reader) => this.#card(reader)));
    const of = room > 0 && totalReaders === sorted.length ? ` of ${numbers.format(room)}` : '';
    this.#sum.textContent = totalReaders > 0 ? plural(viewers, 'viewer') + of : '';
    this.#empty.hidden = totalReaders > 0 && totalReaders <= SHOWN;
    this.#empty.textContent = totalReaders > SHOWN ? `and ${numbers.format(totalReaders - SHOWN)} more` : 'No reader has reported yet.';
    this.#chart.add(sorted.map(({ instanceId, activeConnections }) => ({ name: instanceId, value: activeConnections })));
  }

  /** How many messages a second each reader sent since the last report. */
  #measure(readers) {
    const now = performance.now();
    const seen = new Map();
    this.#rates.clear();
    for (const { instanceId, messagesSent } of readers) {
      const last = this.#sent.get(instanceId);
      // A reader that was restarted counts from nought again: no rate is better than a wrong one.
      if (last && messagesSent >= last.count) this.#rates.set(instanceId, ((messagesSent - last.count) * 1000) / (now - last.at));
      seen.set(instanceId, { count: messagesSent, at: now });
    }
    this.#sent = seen;
  }

  #card(reader) {
    const card = document.createElement('li');
    card.className = 'reader';
    const add = (tag, text, className) => {
      const element = Object.assign(document.createElement(tag), { textContent: text });
      if (className) element.className = className;
      card.append(element, ' ');
      return element;
    };
    const { instanceId, activeConnections, capacity } = reader;
    add('b', instanceId).title = instanceId;
    const viewers = add('span', numbers.format(activeConnections), 'viewers');
    viewers.append(Object.assign(document.createElement('span'), { className: 'sr-only', textContent: ' viewers' }));
    // Without its capacity nobody can say how full it is.
    if (capacity > 0) {
      const used = Math.min(1, activeConnections / capacity);
      const bar = document.createElement('i');
      bar.style.transform = `scaleX(${used})`;
      bar.className = used > 0.9 ? 'full' : '';
      const meter = add('span', '', 'meter');
      meter.append(bar);
      meter.title = `${percent.format(used)} of ${numbers.format(capacity)}`;
    }
    add('small', plural(reader.subscribedTopics?.length ?? 0, 'video'));
    const rate = this.#rates.get(instanceId) ?? 0;
    add('small', rate >= 0.5 ? `${numbers.format(Math.round(rate))} messages/s` : `${numbers.format(reader.messagesSent)} sent`);
    return card;
  }
}
