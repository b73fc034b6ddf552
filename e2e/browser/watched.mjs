/** The pages of one test file: those of a test are closed after it, and what they complained of to the console fails it. */

import assert from 'node:assert/strict';
import { launch } from './chromium.mjs';

/** The browser tells of every 404 by itself: of a video that nobody has heard of, too. */
export const isOfNewVideo = (message) =>
  /status of 404/.test(message.text()) && new URL(message.location().url).pathname.startsWith('/videos/');

/**
 * What the browser says by itself where a part answers late on a busy machine: 503, a WebSocket that was answered so, 426, the answer
 * to a client that asks why its WebSocket did not open, and a stream that was cut. The page asks again, and says so itself where it does not.
 */
export const isOfBusyPart = (message) =>
  /status of (426|503) |WebSocket connection to .* failed: .*response code: 503|net::ERR_(INCOMPLETE_CHUNKED_ENCODING|NETWORK_CHANGED)/.test(message.text());

export class WatchedPages {
  #browser;
  #contexts = [];
  #complaints = [];
  #patienceMs;
  #isExpected;

  /** `patienceMs` is how long a page waits for anything; `isExpected` says which messages are no complaints. */
  constructor(patienceMs, isExpected = () => false) {
    this.#patienceMs = patienceMs;
    this.#isExpected = isExpected;
  }

  async launch() {
    this.#browser = await launch();
  }

  async open(url, options = {}) {
    const context = await this.#browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    context.setDefaultTimeout(this.#patienceMs);
    this.#contexts.push(context);
    const page = await context.newPage();
    page.on('pageerror', (error) => this.#complaints.push(String(error)));
    page.on('console', (message) => {
      if (isOfBusyPart(message) || this.#isExpected(message)) return;
      if (['error', 'warning'].includes(message.type())) this.#complaints.push(message.text());
    });
    await page.goto(url);
    return page;
  }

  async endTest() {
    await Promise.all(this.#contexts.splice(0).map((context) => context.close()));
    assert.deepEqual(this.#complaints.splice(0), [], 'the page complains to the console');
  }

  async close() {
    await this.#browser?.close();
  }
}
