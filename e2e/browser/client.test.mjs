/** The reference client in Node, through the front door and direct, against a liverank of its own. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Liverank } from '../../web/liverank.js';
import { prepareServer } from './server.mjs';

const PATIENCE_MS = 30_000;
let server;
const open = [];

before(async () => {
  server = await prepareServer();
  await server.start();
});

after(async () => {
  for (const stream of open) stream.close();
  await server?.remove();
});

async function until(holds, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!holds()) {
    assert.ok(Date.now() < deadline, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('viewers on both ways in see every comment once and in order, across kill -9', async () => {
  const liverank = new Liverank({ baseUrl: server.origin });
  const viewers = [false, true].map((direct) => {
    const viewer = { heard: [], connected: 0, live: false };
    const stream = liverank.comments('watched', {
      userid: direct ? 'direct' : 'front',
      direct,
      onConnected: () => (viewer.connected += 1),
      onComment: (comment) => viewer.heard.push(comment.comment),
      onGap: (gap) => viewer.heard.push(gap),
      onState: ({ state }) => (viewer.live = state === 'live'),
    });
    open.push(stream);
    return viewer;
  });
  const all = (holds) => viewers.every(holds);
  const expected = [];
  const post = async (comment) => {
    await liverank.postComment({ userid: 'poster', videoid: 'watched', comment });
    expected.push(comment);
  };
  await until(() => all((viewer) => viewer.live), 'both connected');
  for (let i = 0; i < 5; i += 1) await post(`before ${i}`);
  await until(() => all((viewer) => viewer.heard.length >= 5), 'what was posted before');
  await server.kill();
  await until(() => all((viewer) => !viewer.live), 'both lost');
  const posting = post('while it was away');
  await server.start();
  await posting;
  for (let i = 0; i < 5; i += 1) await post(`after ${i}`);
  await until(() => all((viewer) => viewer.heard.length >= expected.length), 'all of it');
  for (const viewer of viewers) {
    assert.deepEqual(viewer.heard, expected);
    assert.ok(viewer.connected >= 2);
  }
  const page = await liverank.history('watched', { limit: 100 });
  assert.deepEqual(page.comments.map((comment) => comment.comment).toReversed(), expected);
});
