// Clients from npm, as their users use them: each connects, is cut, and resumes.
import assert from 'node:assert/strict';
import test from 'node:test';
import { EventSource } from 'eventsource';
import polyfill from 'event-source-polyfill';
import { fetchEventSource } from '@microsoft/fetch-event-source';
import WebSocket from 'ws';
import { Cutter, front, post, say, until } from './system.mjs';

const run = Math.random().toString(36).slice(2);

// `open(url, onData)` opens a stream of comments and answers how to close it.
const streams = {
  eventsource(url, onData) {
    const source = new EventSource(url);
    source.onmessage = (event) => onData(event.data);
    return () => source.close();
  },
  'event-source-polyfill'(url, onData) {
    const source = new polyfill.EventSourcePolyfill(url, { heartbeatTimeout: 60_000 });
    source.onmessage = (event) => onData(event.data);
    return () => source.close();
  },
  '@microsoft/fetch-event-source'(url, onData) {
    // It is made for pages: it looks at `document` and waits for `window`.
    globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };
    globalThis.window ??= globalThis;
    const abort = new AbortController();
    fetchEventSource(url, {
      signal: abort.signal,
      fetch: (input, init) => fetch(input, init),
      onmessage: (message) => { if (message.data && message.event === '') onData(message.data); },
      onclose() { throw new Error('again'); },
      onerror: () => 200,
    }).catch(() => {});
    return () => abort.abort();
  },
};

for (const [name, open] of Object.entries(streams)) {
  test(`${name} resumes after a cut and misses nothing`, { timeout: 60_000 }, async () => {
    const cutter = await new Cutter().open();
    const video = `${name}-${run}`;
    const heard = [];
    let connected = 0;
    const close = open(`${cutter.url}/connect?userid=viewer&videoid=${encodeURIComponent(video)}`, (data) => {
      const message = JSON.parse(data);
      if (message.type === 'connected') connected += 1;
      else heard.push(message.comment);
    });
    try {
      await until('a greeting', () => connected === 1);
      const said = await say(video, 3);
      await until('the first comments', () => heard.length >= 3);
      cutter.cut();
      said.push(...await say(video, 5));
      await until('a second greeting', () => connected === 2);
      said.push(...await say(video, 2));
      await until('all comments', () => heard.length >= said.length);
      assert.deepEqual(heard, said);
    } finally {
      close();
      cutter.close();
    }
  });
}

test('a polyfill resumes by the id in its address', { timeout: 60_000 }, async () => {
  const video = `address-${run}`;
  const read = async (query) => {
    const abort = new AbortController();
    const response = await until('a stream', async () => {
      const answer = await fetch(`${front}/connect?userid=viewer&videoid=${video}${query}`, { signal: abort.signal });
      return answer.status !== 503 && answer;
    });
    assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
    return { reader: response.body.getReader(), abort };
  };
  const first = await read('');
  // A piece may end within the greeting.
  let greeting = '';
  while (!/^id: .*\n/m.test(greeting)) greeting += new TextDecoder().decode((await first.reader.read()).value);
  const id = /^id: (.*)$/m.exec(greeting)[1];
  first.abort.abort();
  const said = await say(video, 3);
  for (const name of ['last_event_id', 'lastEventId', 'lastEventID']) {
    const again = await read(`&${name}=${id}`);
    let text = '';
    await until(`the comments after ${name}`, async () => {
      text += new TextDecoder().decode((await again.reader.read()).value);
      return (text.match(/"comment":/g) ?? []).length >= said.length;
    });
    again.abort.abort();
  }
});

test('fetch reads the 413 of a body of 3 MB', { timeout: 30_000 }, async () => {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(`${front}/interact`, { method: 'POST', headers, body: 'x'.repeat(3 * 1024 * 1024) });
  assert.equal(response.status, 413);
  assert.equal((await response.json()).status, 413);
});

test('a beacon of a page that closes is taken', async () => {
  const event = { video_id: `beacon-${run}`, user_id: 'viewer', type: 'view' };
  const response = await post('/interact', event, { 'content-type': 'text/plain;charset=UTF-8', origin: 'https://example.org' });
  assert.equal(response.status, 202);
});

const view = async (video) => {
  const response = await post('/interact', { video_id: video, user_id: 'viewer', type: 'view' });
  assert.equal(response.status, 202);
};

test('ws gets lists, has its pings answered, and gets lists again after a cut', { timeout: 60_000 }, async () => {
  const cutter = await new Cutter().open();
  let latest = [];
  const connect = () => new Promise((resolve, reject) => {
    const socket = new WebSocket(`${cutter.url.replace('http', 'ws')}/ws/videos?limit=777`);
    socket.on('message', (text) => { latest = JSON.parse(text); });
    socket.on('open', () => resolve(socket));
    socket.on('error', reject);
  });
  const first = await connect();
  const closed = new Promise((resolve) => first.on('close', resolve));
  await view(`ws-${run}`);
  await until('the video in the list', () => latest.some((video) => video.video_id === `ws-${run}`));
  let pong = '';
  first.on('pong', (data) => { pong = data.toString(); });
  for (let n = 0; n < 10; n += 1) first.ping(String(n));
  await until('a pong for the latest ping', () => pong === '9');
  cutter.cut();
  assert.equal(await closed, 1006, 'a cut is a cut');
  const second = await connect();
  await view(`ws-again-${run}`);
  await until('the other video in the list', () => latest.some((video) => video.video_id === `ws-again-${run}`));
  const goodbye = new Promise((resolve) => second.on('close', resolve));
  second.close(4001, 'enough');
  assert.equal(await goodbye, 4001);
  cutter.close();
});
