/** The readers with their viewers, from `GET /statistics`. */

const POLL_MS = 2_000;
/** More readers than this are summed up in a line, so that a large system does not fill the page. */
const SHOWN = 24;

const numbers = new Intl.NumberFormat('en');
const plural = (count, one, many = `${one}s`) => `${numbers.format(count)} ${count === 1 ? one : many}`;

export class ReadersView {
  #liverank;
  #list = document.getElementById('reader-list');
  #sum = document.getElementById('readers-sum');
  #empty = document.getElementById('readers-empty');
  #sent = new Map();
  #rates = new Map();
  #paused;

  /** `paused()` says when there is no point in asking: the page is hidden, the server is away. */
  constructor(liverank, { paused }) {
    this.#liverank = liverank;
    this.#paused = paused;
    this.#poll();
  }

  async #poll() {
    if (!this.#paused()) {
      await this.#liverank.statistics().then(
        (statistics) => this.#show(statistics.readerApis),
        () => this.#list.classList.add('stale'),
      );
    }
    setTimeout(() => this.#poll(), POLL_MS);
  }

  #show({ readers, totalReaders = readers.length, totalActiveConnections }) {
    const sorted = readers.toSorted((a, b) => a.instanceId.localeCompare(b.instanceId, 'en', { numeric: true }));
    const viewers = totalActiveConnections ?? sorted.reduce((sum, reader) => sum + reader.activeConnections, 0);
    const most = Math.max(...sorted.map((reader) => reader.activeConnections), 1);
    this.#measure(sorted);
    this.#list.classList.remove('stale');
    this.#list.replaceChildren(...sorted.slice(0, SHOWN).map((reader) => this.#card(reader, most)));
    this.#sum.textContent = totalReaders > 0 ? plural(viewers, 'viewer') : '';
    this.#empty.hidden = totalReaders > 0 && totalReaders <= SHOWN;
    this.#empty.textContent = totalReaders > SHOWN ? `and ${numbers.format(totalReaders - SHOWN)} more` : 'No reader has reported yet.';
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

  #card(reader, most) {
    const card = document.createElement('li');
    card.className = 'reader';
    const add = (tag, text, className) => {
      const element = Object.assign(document.createElement(tag), { textContent: text });
      if (className) element.className = className;
      card.append(element, ' ');
      return element;
    };
    add('b', reader.instanceId).title = reader.instanceId;
    const viewers = add('span', numbers.format(reader.activeConnections), 'viewers');
    viewers.append(Object.assign(document.createElement('span'), { className: 'sr-only', textContent: ' viewers' }));
    const bar = document.createElement('i');
    bar.style.transform = `scaleX(${reader.activeConnections / most})`;
    add('span', '', 'meter').append(bar);
    add('small', plural(reader.subscribedTopics?.length ?? 0, 'video'));
    const rate = this.#rates.get(reader.instanceId) ?? 0;
    add('small', rate >= 0.5 ? `${numbers.format(Math.round(rate))} messages/s` : `${numbers.format(reader.messagesSent)} sent`);
    return card;
  }
}
