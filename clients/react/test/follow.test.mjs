/** What is followed of a video's comments, with the real client against a server that answers when it is told to. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { afterEach, test } from 'node:test';
import { Liverank } from '@liverank/client';
import { followComments } from '../dist/follow.js';
import { after, inOrder, nothing } from '../dist/shown.js';

const cleanups = [];
afterEach(() => Promise.all(cleanups.splice(0).map((cleanup) => cleanup())));

const comment = (seq) => ({ id: `c${seq}`, seq, userid: 'u', videoid: 'v', comment: `number ${seq}` });
const page = (seqs, { next = null, ...more } = {}) => ({ comments: seqs.map(comment), next, ...more });

/** A server of one stream and of pages that are asked for; `stream(…)` writes events, `asked()` is the next question. */
async function follow(more = {}) {
  const questions = [];
  const waiting = [];
  const streams = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://x');
    if (url.pathname === '/connect') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('id: n1-10\ndata: {"type":"connected","instance":"reader-1"}\n\n');
      streams.push({ response, events: url.searchParams.get('events') });
      return;
    }
    const question = {
      query: Object.fromEntries(url.searchParams),
      answer: (body, status = 200) => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify(body));
      },
    };
    const waiter = waiting.shift();
    if (waiter) waiter(question);
    else questions.push(question);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  let shown = nothing(100);
  let failure = null;
  const liverank = new Liverank({ baseUrl: `http://127.0.0.1:${server.address().port}` });
  const following = followComments(liverank, { videoid: 'v', userid: 'u', history: 3 }, {
    onChange: (change) => (shown = after(shown, change)),
    onStatus: () => {},
    onFailure: (error) => (failure = error),
    ...more,
  });
  cleanups.push(() => {
    following.close();
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const event = (seq, type, body) => {
    const name = type === 'message' ? '' : `event: ${type}\n`;
    streams[0].response.write(`${name}id: n1-${seq}\ndata: ${JSON.stringify(body)}\n\n`);
  };
  return {
    following,
    asked: () => (questions.length > 0 ? Promise.resolve(questions.shift()) : new Promise((resolve) => waiting.push(resolve))),
    live: (seq) => event(seq, 'message', comment(seq)),
    deleted: (seq, id) => event(seq, 'deleted', { type: 'deleted', id, videoid: 'v', seq: null, by: 'author' }),
    pinned: (seq, id) => event(seq, 'pinned', { type: 'pinned', id, videoid: 'v', seq: null }),
    viewers: (viewers) => streams[0].response.write(`event: viewers\ndata: ${JSON.stringify({ type: 'viewers', videoid: 'v', viewers })}\n\n`),
    gap: (from, to) => event(to, 'gap', { from, to }),
    numbers: () => inOrder(shown).map(({ seq }) => seq),
    pin: () => shown.pin,
    older: () => shown.older,
    failure: () => failure,
    events: () => streams[0].events,
  };
}

/** Resolves when `holds()` does; fails after ten seconds. */
async function until(holds, what) {
  const deadline = Date.now() + 10_000;
  while (!holds()) {
    assert.ok(Date.now() < deadline, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('a comment that is removed while the history is under way does not come back with it', async () => {
  const video = await follow();
  const first = await video.asked();
  assert.equal(video.events(), 'deleted,pinned');
  assert.deepEqual(first.query, { limit: '3', userid: 'u' });
  video.deleted(11, 'c9');
  video.live(12);
  await until(() => video.numbers().includes(12), 'the live comment');
  first.answer(page([10, 9, 8], { next: 8 }));
  await until(() => video.numbers().length === 3, 'the history');
  assert.deepEqual(video.numbers(), [8, 10, 12]);
});

test('a pin that the stream tells of holds against a page that was asked for before', async () => {
  const video = await follow();
  const first = await video.asked();
  video.pinned(11, 'c2');
  const search = await video.asked();
  assert.deepEqual(search.query, { around: 'c2', limit: '1', userid: 'u' });
  first.answer(page([10, 9, 8], { next: 8, pinned: comment(9) }));
  await until(() => video.numbers().length === 3, 'the history');
  assert.deepEqual(video.pin(), { id: 'c2', comment: null });
  search.answer(page([2]));
  await until(() => video.pin()?.comment?.seq === 2, 'the text of the pinned one');
  video.pinned(12, null);
  await until(() => video.pin() === null, 'none is pinned');
});

test('a gap is filled with what came, without what was removed, and with what is pinned now', async () => {
  const video = await follow();
  (await video.asked()).answer(page([10, 9, 8], { next: 8 }));
  await until(() => video.numbers().length === 3, 'the history');
  video.gap(11, 14);
  video.live(15);
  await until(() => video.numbers().includes(15), 'the live comment');
  (await video.asked()).answer(page([15, 14, 12], { next: 12, pinned: comment(10) }));
  const second = await video.asked();
  assert.equal(second.query.before, '12');
  // 9 was removed within the gap.
  second.answer(page([11, 10, 8], { next: 8 }));
  await until(() => video.numbers().includes(11), 'the gap');
  assert.deepEqual(video.numbers(), [8, 10, 11, 12, 14, 15]);
  assert.equal(video.pin().comment.seq, 10);
});

test('viewers are counted where somebody listens', async () => {
  const counts = [];
  const video = await follow({ onViewers: (viewers) => counts.push(viewers) });
  await video.asked();
  assert.equal(video.events(), 'viewers,deleted,pinned');
  video.viewers(7);
  await until(() => counts.length === 1, 'the count');
  assert.deepEqual(counts, [7]);
});

test('older pages follow each other, and one that cannot be read is said and asked for again', async () => {
  const video = await follow();
  (await video.asked()).answer(page([10, 9, 8], { next: 8 }));
  await until(() => video.older() === 8, 'the history');
  const failing = video.following.loadOlder(8);
  (await video.asked()).answer({ title: 'Not Found' }, 404);
  await failing;
  assert.equal(video.failure().status, 404);
  const reading = video.following.loadOlder(8);
  const older = await video.asked();
  assert.deepEqual(older.query, { before: '8', limit: '3', userid: 'u' });
  video.deleted(11, 'c6');
  video.live(12);
  await until(() => video.numbers().includes(12), 'the live comment');
  older.answer(page([7, 6, 5]));
  await reading;
  assert.deepEqual(video.numbers(), [5, 7, 8, 9, 10, 12]);
  assert.equal(video.older(), null);
});
