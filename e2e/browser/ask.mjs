/** Requests past the pages, as clients make them: what a part that is away for a moment answers (503) is asked for again. */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

/** For whatever a busy machine has to do, in ms. */
const PATIENCE_MS = 60_000;
const PAUSE_MS = 50;

export const pause = (ms = PAUSE_MS) => new Promise((resolve) => setTimeout(resolve, ms));

/** The first answer that is no 503. */
export async function answerOf(url, init) {
  for (const deadline = Date.now() + PATIENCE_MS; ; await pause()) {
    const response = await fetch(url, init);
    if (response.status !== 503) return response;
    assert.ok(Date.now() < deadline, `${url} is answered 503 for ever: ${await response.text()}`);
  }
}

/** The JSON of an answer that is good. */
export async function get(url, init) {
  const response = await answerOf(url, init);
  assert.ok(response.ok, `${url} answered ${response.status}: ${await response.clone().text()}`);
  return response.json();
}

/** What the log has although its answer came too late counts once: a post that is sent again has its id. */
function withId(path, body) {
  if (Array.isArray(body)) return body.map((event) => ({ event_id: randomUUID(), ...event }));
  if (path === '/interact') return { event_id: randomUUID(), ...body };
  if (path === '/comment') return { idempotency_key: randomUUID(), ...body };
  return body;
}

/** The answer to a request with a JSON body. */
export function send(method, origin, path, body, headers = {}) {
  return answerOf(origin + path, { method, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(withId(path, body)) });
}

/** The JSON of the answer to a post that is taken. */
export async function post(origin, path, body, headers) {
  const response = await send('POST', origin, path, body, headers);
  assert.ok(response.ok, `${path} answered ${response.status}: ${await response.clone().text()}`);
  return response.json();
}

/** What `ask` returns as soon as it is right; what it throws may be of a moment. */
export async function settled(ask, isRight, what = 'the answer') {
  for (const deadline = Date.now() + PATIENCE_MS; ; await pause()) {
    let answer;
    try {
      answer = await ask();
      if (isRight(answer)) return answer;
    } catch (error) {
      answer = String(error);
    }
    assert.ok(Date.now() < deadline, `in vain: ${what}; at last ${JSON.stringify(answer)}`);
  }
}
