import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { afterEach, test } from 'node:test';
import { Liverank } from '../dist/index.js';

const cleanups = [];
afterEach(() => Promise.all(cleanups.splice(0).map((cleanup) => cleanup())));

/** A server on a free port; `handle(request, response, body)` answers. Returns its origin. */
async function serve(handle) {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    await handle(request, response, body && JSON.parse(body));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${server.address().port}`;
}

function answer(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

/** Resolves when `holds()` does; fails after ten seconds. */
async function until(holds, what) {
  const deadline = Date.now() + 10_000;
  while (!holds()) {
    assert.ok(Date.now() < deadline, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Pauses are cut to almost nothing; a pause of nothing at all would hide a missing one. */
const quick = () => 0.01;
const comment = (seq) => `id: n1-${seq}\ndata: ${JSON.stringify({ id: `c${seq}`, comment: `number ${seq}`, seq })}\n\n`;
const greeting = (seq) => `retry: 20\nid: n1-${seq}\ndata: {"type":"connected","instance":"reader-1"}\n\n`;

/** Writes these pieces of a stream and ends it, unless `open`. */
function stream(response, pieces, { open = false } = {}) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const piece of pieces) response.write(piece);
  if (!open) response.end();
}

test('a post is repeated under one key until it is acknowledged, and waits as long as it is told to', async () => {
  const keys = [];
  const times = [];
  const baseUrl = await serve((request, response, body) => {
    keys.push(body.idempotency_key);
    times.push(Date.now());
    if (keys.length === 1) return request.socket.destroy();
    if (keys.length === 2) return answer(response, 503, { title: 'the log is away' }, { 'retry-after': '1' });
    return answer(response, 201, { success: true, comment: { id: 'c1', comment: body.comment } });
  });
  const retries = [];
  const liverank = new Liverank({ baseUrl: `${baseUrl}/`, random: quick });
  const stored = await liverank.postComment({ userid: 'u', videoid: 'v', comment: 'hello' }, { onRetry: (why) => retries.push(why.error.status) });
  assert.deepEqual(stored, { id: 'c1', comment: 'hello' });
  assert.deepEqual(retries, [0, 503]);
  assert.equal(new Set(keys).size, 1);
  assert.match(keys[0], /^[0-9a-f]{32}$/);
  assert.ok(times[2] - times[1] >= 990, `came again after ${times[2] - times[1]} ms`);
});

test('a comment that waits for a moderator says so, and another does not', async () => {
  const baseUrl = await serve((request, response, body) => {
    const comment = { id: 'c1', comment: body.comment };
    if (body.comment === 'hm') answer(response, 202, { success: true, held: true, comment });
    else answer(response, 201, { success: true, comment });
  });
  const liverank = new Liverank({ baseUrl });
  assert.deepEqual(await liverank.postComment({ userid: 'u', videoid: 'v', comment: 'hm' }), { id: 'c1', comment: 'hm', held: true });
  assert.deepEqual(await liverank.postComment({ userid: 'u', videoid: 'v', comment: 'hello' }), { id: 'c1', comment: 'hello' });
});

test('a post that is refused is not repeated, and says why', async () => {
  let requests = 0;
  const baseUrl = await serve((request, response) => {
    requests += 1;
    answer(response, 400, { title: 'Bad Request', detail: 'type: unknown' });
  });
  const liverank = new Liverank({ baseUrl, random: quick });
  await assert.rejects(liverank.interact({ video_id: 'v', user_id: 'u', type: 'stare' }), (error) => {
    assert.equal(error.status, 400);
    assert.equal(error.problem.detail, 'type: unknown');
    return /type: unknown/.test(error.message);
  });
  assert.equal(requests, 1);
});

test('a post gives up when its time is over or its caller says so', async () => {
  const baseUrl = await serve((request, response) => answer(response, 503, { title: 'away' }, { 'retry-after': '30' }));
  const liverank = new Liverank({ baseUrl, random: quick });
  const event = { video_id: 'v', user_id: 'u', type: 'view' };
  await assert.rejects(liverank.interact(event, { timeoutMs: 50 }), { status: 503 });
  const abort = new AbortController();
  await assert.rejects(liverank.interact(event, { signal: abort.signal, onRetry: () => abort.abort() }), /given up/);
});

test('an interaction keeps the id that its caller gave it, and ids are escaped in paths', async () => {
  const seen = [];
  const baseUrl = await serve((request, response, body) => {
    seen.push(body?.event_id ?? request.url);
    answer(response, 200, { comments: [], next: null });
  });
  const liverank = new Liverank({ baseUrl });
  await liverank.interact({ video_id: 'v', user_id: 'u', type: 'view', event_id: 'mine' });
  await liverank.history('a/b?c d', { before: 7, limit: 2 });
  await liverank.history('plain');
  assert.deepEqual(seen, ['mine', '/comments/a%2Fb%3Fc%20d?before=7&limit=2', '/comments/plain']);
});

test('a comment stream resumes where it stopped, whatever ends it', async () => {
  const asked = [];
  const baseUrl = await serve((request, response) => {
    asked.push(new URL(request.url, 'http://x').searchParams.get('last_event_id'));
    if (asked.length === 1) return stream(response, [greeting(3), comment(4), comment(5)]);
    if (asked.length === 2) return answer(response, 503, {}, { 'retry-after': '0' });
    // The server repeats one, as it may: the client drops it.
    return stream(response, [greeting(7), comment(5), comment(6), comment(7)], { open: true });
  });
  const heard = [];
  const states = [];
  const liverank = new Liverank({ baseUrl, random: quick });
  const comments = liverank.comments('v', {
    userid: 'u',
    onComment: (one) => heard.push(one.seq),
    onGap: (gap) => heard.push(gap),
    onState: ({ state }) => states.push(state),
  });
  await until(() => heard.length >= 4, 'four comments');
  assert.deepEqual(heard, [4, 5, 6, 7]);
  assert.deepEqual(asked, [null, 'n1-5', 'n1-5']);
  assert.equal(comments.lastEventId, 'n1-7');
  comments.close();
  assert.deepEqual(states, ['connecting', 'live', 'waiting', 'connecting', 'waiting', 'connecting', 'live', 'closed']);
});

test('a gap is reported and moved over', async () => {
  const baseUrl = await serve((request, response) =>
    stream(response, [greeting(50), 'event: gap\nid: n1-40\ndata: {"from":3,"to":40}\n\n', comment(41)], { open: true }),
  );
  const heard = [];
  const liverank = new Liverank({ baseUrl, random: quick });
  const comments = liverank.comments('v', {
    userid: 'u',
    lastEventId: 'n1-2',
    onComment: (one) => heard.push(one.seq),
    onGap: (gap) => heard.push(gap),
  });
  cleanups.push(() => comments.close());
  await until(() => heard.length === 2, 'a gap and a comment');
  assert.deepEqual(heard, [{ from: 3, to: 40 }, 41]);
});

test('in direct mode every end leads back to the manager, and a video nobody serves is registered', async () => {
  const seen = [];
  const reader = await serve((request, response) => {
    seen.push(`connect ${new URL(request.url, 'http://x').searchParams.get('last_event_id')}`);
    if (seen.length < 4) return stream(response, [greeting(0), comment(1)]);
    return stream(response, [greeting(2), comment(2)], { open: true });
  });
  const baseUrl = await serve((request, response, body) => {
    seen.push(body ? `register ${body.videoid}` : request.url);
    if (request.url === '/resolve/v' && seen.length === 1) return answer(response, 404, { error: 'not registered', videoid: 'v' });
    return answer(response, 200, { videoid: 'v', readerUrl: reader });
  });
  const heard = [];
  const liverank = new Liverank({ baseUrl, random: quick });
  const comments = liverank.comments('v', { userid: 'u', direct: true, onComment: (one) => heard.push(one.seq) });
  cleanups.push(() => comments.close());
  await until(() => heard.length === 2, 'two comments');
  assert.deepEqual(heard, [1, 2]);
  assert.deepEqual(seen, ['/resolve/v', 'register v', 'connect null', '/resolve/v', 'connect n1-1']);
});

test('the pause that a stream asks for is kept', async () => {
  const times = [];
  const baseUrl = await serve((request, response) => {
    times.push(Date.now());
    stream(response, [greeting(0).replace('retry: 20', 'retry: 400')], { open: times.length > 1 });
  });
  const comments = new Liverank({ baseUrl, random: () => 0 }).comments('v', { userid: 'u' });
  cleanups.push(() => comments.close());
  await until(() => times.length === 2, 'a second connection');
  assert.ok(times[1] - times[0] >= 390, `came again after ${times[1] - times[0]} ms`);
});

test('a closed stream stays closed', async () => {
  let connections = 0;
  const baseUrl = await serve((request, response) => {
    connections += 1;
    response.on('close', () => (connections -= 1));
    stream(response, [greeting(0)], { open: true });
  });
  const states = [];
  const comments = new Liverank({ baseUrl, random: quick }).comments('v', { userid: 'u', onState: ({ state }) => states.push(state) });
  await until(() => states.includes('live'), 'a connection');
  comments.close();
  comments.retryNow();
  await until(() => connections === 0, 'the end of the connection');
  assert.deepEqual(states, ['connecting', 'live', 'closed']);
});

/** What the client needs of a browser's WebSocket, driven by the test. */
class FakeSocket {
  static all = [];

  constructor(url) {
    this.url = url;
    FakeSocket.all.push(this);
  }

  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }

  close() {
    this.closed = true;
  }
}

test('a ranking follows deltas, and asks for a snapshot when one does not fit', async () => {
  FakeSocket.all = [];
  const lists = [];
  const liverank = new Liverank({ baseUrl: 'http://front', WebSocket: FakeSocket, random: quick });
  const ranking = liverank.ranking({ limit: 2, board: 'trending', onList: (list) => lists.push(list.map((video) => video.video_id).join()) });
  await until(() => FakeSocket.all.length === 1, 'a socket');
  const [first] = FakeSocket.all;
  assert.equal(first.url, 'ws://front/ws/videos?board=trending&limit=2&mode=delta');
  first.say({ type: 'snapshot', version: 1, videos: [{ video_id: 'a', score: 2, user_id: 'u' }] });
  first.say({ type: 'delta', base: 1, version: 2, remove: [], set: [{ video_id: 'b', score: 3, user_id: 'u' }] });
  first.say({ type: 'delta', base: 3, version: 4, remove: ['a'], set: [] });
  assert.ok(first.closed);
  await until(() => FakeSocket.all.length === 2, 'another socket');
  FakeSocket.all[1].say({ type: 'snapshot', version: 4, videos: [{ video_id: 'b', score: 3, user_id: 'u' }] });
  ranking.close();
  assert.deepEqual(lists, ['a', 'b,a', 'b']);
});

test('lists ask for what else their lines are to have', async () => {
  FakeSocket.all = [];
  const liverank = new Liverank({ baseUrl: 'http://front', WebSocket: FakeSocket, random: quick });
  const streams = [liverank.ranking({ limit: 5, fields: ['metadata'] }), liverank.rankingAround('a', { fields: ['metadata'] })];
  await until(() => FakeSocket.all.length === 2, 'both sockets');
  const urls = FakeSocket.all.map(({ url }) => url);
  assert.deepEqual(urls, ['ws://front/ws/videos?limit=5&mode=delta&fields=metadata', 'ws://front/ws/videos?around=a&fields=metadata']);
  for (const stream of streams) stream.close();
});

test('the list around a video comes as it is', async () => {
  FakeSocket.all = [];
  const parts = [];
  const liverank = new Liverank({ baseUrl: 'https://front', WebSocket: FakeSocket, random: quick });
  const around = liverank.rankingAround('a b', { limit: 3, board: 'trending', onPart: (part) => parts.push(part) });
  await until(() => FakeSocket.all.length === 1, 'a socket');
  assert.equal(FakeSocket.all[0].url, 'wss://front/ws/videos?board=trending&limit=3&around=a+b');
  const part = { first_rank: 7, total: 9, videos: [{ video_id: 'a b', score: 1, user_id: 'ana' }] };
  FakeSocket.all[0].say(part);
  assert.equal(around.state, 'live');
  around.close();
  assert.deepEqual(parts, [part]);
});

test('viewers are told to who asks, and move nobody', async () => {
  const urls = [];
  const baseUrl = await serve((request, response) => {
    urls.push(request.url);
    const count = 'event: viewers\ndata: {"viewers":3}\n\n';
    stream(response, [greeting(0), count, comment(1)], { open: true });
  });
  const told = [];
  const liverank = new Liverank({ baseUrl, random: quick });
  const watching = liverank.comments('v', { userid: 'u', onViewers: (viewers) => told.push(viewers), onComment: ({ seq }) => told.push(`c${seq}`) });
  await until(() => told.length === 2, 'both');
  assert.equal(watching.lastEventId, 'n1-1');
  watching.close();
  const quiet = liverank.comments('v', { userid: 'u', onComment: ({ seq }) => told.push(`c${seq}`) });
  await until(() => told.length === 3, 'the comment');
  quiet.close();
  assert.deepEqual(told, [3, 'c1', 'c1']);
  assert.deepEqual(urls.map((url) => new URL(url, baseUrl).searchParams.get('events')), ['viewers', null]);
});

test('a deletion is told in order, and what was not asked for leaves no hole', async () => {
  const urls = [];
  const deleted = (seq, of) => `event: deleted\nid: n1-${seq}\ndata: {"type":"deleted","id":"c${of}","seq":${of},"by":"moderator"}\n\n`;
  const baseUrl = await serve((request, response) => {
    urls.push(request.url);
    const asks = request.url.includes('events=deleted');
    stream(response, [greeting(0), comment(1), 'id: n1-2\n\n', asks ? deleted(3, 1) : 'id: n1-3\n\n', comment(4)], { open: true });
  });
  const told = [];
  const handlers = { userid: 'u', onComment: ({ seq }) => told.push(seq), onGap: (gap) => told.push(gap) };
  const liverank = new Liverank({ baseUrl, random: quick });
  const asking = liverank.comments('v', { ...handlers, onDeleted: ({ id }) => told.push(`-${id}`) });
  await until(() => told.includes(4), 'the last comment');
  assert.equal(asking.lastEventId, 'n1-4');
  asking.close();
  assert.deepEqual(told.splice(0), [1, '-c1', 4]);
  const quiet = liverank.comments('v', handlers);
  await until(() => told.includes(4), 'the last comment');
  quiet.close();
  assert.deepEqual(told, [1, 4]);
});

test('moderators ask for what they are named', async () => {
  const asked = [];
  const baseUrl = await serve((request, response, body) => {
    asked.push(`${request.method} ${request.url}`);
    if (body) asked.push(body);
    answer(response, 202, {});
  });
  const liverank = new Liverank({ baseUrl, random: quick });
  await liverank.deleteComment('a b', 'c/1', { reason: 'off topic' });
  await liverank.ban({ userid: 'ben', seconds: 60 });
  await liverank.liftBan({ userid: 'ben', kind: 'mute', videoid: 'v' });
  await liverank.bans({ after: 7 });
  await liverank.moderationLog({ before: 'x', limit: 2 });
  await liverank.held({ after: 'p', limit: 3 });
  await liverank.reviewHeld({ videoid: 'v', id: 'c', outcome: 'release' });
  await liverank.reportComment('a b', 'c/1', { userid: 'ann', reason: 'spam' });
  await liverank.reports({ state: 'closed', after: 'q' });
  await liverank.decideReports({ videoid: 'v', id: 'c', outcome: 'ban', seconds: 60 });
  await liverank.pinComment('v', 'c', { reason: 'news' });
  await liverank.unpinComment('v');
  await liverank.commentRules({ after: 4 });
  await liverank.setCommentRules({ videoid: 'v', rules: { slow_seconds: 5 } });
  await liverank.removeCommentRules({ owner_id: 'o' });
  assert.deepEqual(asked, [
    'DELETE /comments/a%20b/c%2F1?reason=off+topic',
    'POST /moderation/bans',
    { userid: 'ben', seconds: 60 },
    'DELETE /moderation/bans?userid=ben&kind=mute&videoid=v',
    'GET /moderation/bans?after=7',
    'GET /moderation/log?before=x&limit=2',
    'GET /moderation/held?after=p&limit=3',
    'POST /moderation/held',
    { videoid: 'v', id: 'c', outcome: 'release' },
    'POST /comments/a%20b/c%2F1/reports',
    { userid: 'ann', reason: 'spam' },
    'GET /moderation/reports?state=closed&after=q',
    'POST /moderation/reports',
    { videoid: 'v', id: 'c', outcome: 'ban', seconds: 60 },
    'POST /moderation/pins',
    { videoid: 'v', id: 'c', reason: 'news' },
    'DELETE /moderation/pins?videoid=v',
    'GET /moderation/rules?after=4',
    'POST /moderation/rules',
    { videoid: 'v', rules: { slow_seconds: 5 } },
    'DELETE /moderation/rules?owner_id=o',
  ]);
});

test('pages, histories and replies are asked for as they are named', async () => {
  const asked = [];
  const baseUrl = await serve((request, response, body) => {
    asked.push(request.url);
    if (body) asked.push(body.reply_to);
    answer(response, body ? 201 : 200, { comment: {}, comments: [], videos: [] });
  });
  const liverank = new Liverank({ baseUrl, random: quick });
  await liverank.videos({ around: 'a b', fields: ['viewers'] });
  await liverank.history('v', { after: 0 });
  await liverank.history('v', { around: 'c1', limit: 3 });
  await liverank.postComment({ userid: 'u', videoid: 'v', comment: 'yes', replyTo: 'c1' });
  await liverank.postComment({ userid: 'u', videoid: 'v', comment: 'no' });
  assert.deepEqual(asked, [
    '/videos?around=a+b&fields=viewers',
    '/comments/v?after=0',
    '/comments/v?around=c1&limit=3',
    '/comment',
    'c1',
    '/comment',
    undefined,
  ]);
});

test('lists come as they are, and something unreadable ends the connection, not the client', async () => {
  FakeSocket.all = [];
  const lists = [];
  const liverank = new Liverank({ baseUrl: 'https://front', WebSocket: FakeSocket, random: quick });
  const ranking = liverank.userRanking('ana/1', { onList: (list) => lists.push(list) });
  await until(() => FakeSocket.all.length === 1, 'a socket');
  assert.equal(FakeSocket.all[0].url, 'wss://front/ws/user/ana%2F1');
  FakeSocket.all[0].say([{ video_id: 'a', score: 1 }]);
  FakeSocket.all[0].onmessage({ data: '<html>' });
  assert.equal(ranking.state, 'waiting');
  await until(() => FakeSocket.all.length === 2, 'another socket');
  FakeSocket.all[1].say([]);
  ranking.close();
  assert.deepEqual(lists, [[{ video_id: 'a', score: 1 }], []]);
});

// ------------------------------------------------------------------------------------------ final answers and tokens

/** A stream's states up to a final one. */
function followed(start) {
  const states = [];
  return new Promise((resolve) => {
    const stream = start(({ state, error }) => {
      states.push(state);
      if (state === 'failed') resolve({ states, error, stream });
    });
  });
}

test('a stream ends at an answer that is final, and says which', async () => {
  for (const status of [400, 401, 403, 404]) {
    let requests = 0;
    const baseUrl = await serve((request, response) => {
      requests += 1;
      answer(response, status, { detail: `no: ${status}`, field: 'userid' });
    });
    const liverank = new Liverank({ baseUrl, random: quick });
    const { states, error, stream } = await followed((onState) => liverank.comments('v', { userid: 'u', onState }));
    assert.deepEqual([states, error.status, error.problem.field, stream.state], [['connecting', 'failed'], status, 'userid', 'failed']);
    assert.equal(requests, 1);
    stream.close();
  }
});

test('a stream that failed begins anew when it is told to', async () => {
  let allowed = false;
  const baseUrl = await serve((request, response) => (allowed ? stream(response, [greeting(0)], { open: true }) : answer(response, 401, {})));
  const states = [];
  const comments = new Liverank({ baseUrl, random: quick }).comments('v', { userid: 'u', onState: ({ state }) => states.push(state) });
  cleanups.push(() => comments.close());
  await until(() => comments.state === 'failed', 'the end');
  allowed = true;
  comments.retryNow();
  await until(() => comments.state === 'live', 'a stream');
  assert.deepEqual(states, ['connecting', 'failed', 'connecting', 'live']);
});

test('a token is asked for once, shown, and renewed when it is refused', async () => {
  const shown = [];
  const baseUrl = await serve((request, response) => {
    shown.push(request.headers.authorization ?? null);
    if (request.headers.authorization !== 'Bearer t2') return answer(response, 401, { detail: 'expired' });
    return answer(response, 200, { videos: [], next: null });
  });
  let asked = 0;
  const liverank = new Liverank({ baseUrl, token: async () => `t${(asked += 1)}` });
  await Promise.all([liverank.videos(), liverank.videos()]);
  await liverank.videos();
  assert.equal(asked, 2, 'callers that wait together share a token');
  assert.deepEqual(shown.toSorted(), ['Bearer t1', 'Bearer t1', 'Bearer t2', 'Bearer t2', 'Bearer t2']);
});

test('a stream whose token is good no more comes back with another one', async () => {
  const shown = [];
  let asked = 0;
  const baseUrl = await serve((request, response) => {
    shown.push(request.headers.authorization);
    const last = 'event: unauthorized\ndata: {"type":"unauthorized","reason":"expired"}\n\nretry: 20\n\n';
    return stream(response, shown.length === 1 ? [greeting(3), last] : [greeting(3), comment(4)], { open: shown.length > 1 });
  });
  const heard = [];
  const liverank = new Liverank({ baseUrl, token: async () => `t${(asked += 1)}`, random: quick });
  const comments = liverank.comments('v', { userid: 'u', onComment: (it) => heard.push(it.seq) });
  await until(() => heard.length > 0, 'the next stream');
  comments.close();
  assert.deepEqual(shown, ['Bearer t1', 'Bearer t2']);
});

test('a WebSocket that is closed with 4401 comes back with another token', async () => {
  let asked = 0;
  const sockets = [];
  class Socket {
    readyState = 1;
    constructor(url) {
      sockets.push({ socket: this, token: new URL(url).searchParams.get('access_token') });
    }
    close() {}
  }
  const liverank = new Liverank({ baseUrl: 'http://x', WebSocket: Socket, token: async () => `t${(asked += 1)}`, random: quick });
  const ranking = liverank.ranking();
  for (const code of [1012, 4401]) {
    const count = sockets.length + 1;
    await until(() => sockets.length === count, 'a connection');
    const { socket } = sockets.at(-1);
    socket.onopen({});
    socket.onclose({ code, reason: '' });
  }
  await until(() => sockets.length === 3, 'a connection');
  ranking.close();
  assert.deepEqual(sockets.map(({ token }) => token), ['t1', 't1', 't2']);
});

test('a token that is refused when it is new is final', async () => {
  let requests = 0;
  const baseUrl = await serve((request, response) => {
    requests += 1;
    answer(response, 401, { detail: 'not of this issuer' });
  });
  const liverank = new Liverank({ baseUrl, random: quick, token: () => 'mine' });
  await assert.rejects(liverank.interact({ video_id: 'v', user_id: 'u', type: 'view' }), { status: 401 });
  assert.equal(requests, 2);
  const fixed = new Liverank({ baseUrl, random: quick, token: 'fixed' });
  await assert.rejects(fixed.videos(), { status: 401 });
  assert.equal(requests, 3, 'a fixed token cannot be renewed');
});

test('a token that cannot be had now is asked for again', async () => {
  const baseUrl = await serve((request, response) => answer(response, 202, { event_id: request.headers.authorization }));
  let asked = 0;
  const token = () => ((asked += 1) < 3 ? Promise.reject(new Error('the issuer is away')) : 'late');
  const liverank = new Liverank({ baseUrl, random: quick, token });
  const retries = [];
  const options = { onRetry: ({ error }) => retries.push(error.message) };
  assert.equal((await liverank.interact({ video_id: 'v', user_id: 'u', type: 'view' }, options)).event_id, 'Bearer late');
  assert.deepEqual(retries, Array(2).fill('the token could not be had: the issuer is away'));
});

test('a reader is not shown the token', async () => {
  const seen = [];
  const reader = await serve((request, response) => {
    seen.push(['reader', request.headers.authorization]);
    stream(response, [greeting(0)], { open: true });
  });
  const baseUrl = await serve((request, response) => {
    seen.push(['front', request.headers.authorization]);
    answer(response, 200, { videoid: 'v', readerUrl: reader });
  });
  const comments = new Liverank({ baseUrl, token: 'secret' }).comments('v', { userid: 'u', direct: true });
  cleanups.push(() => comments.close());
  await until(() => seen.length === 2, 'a connection');
  assert.deepEqual(seen, [['front', 'Bearer secret'], ['reader', undefined]]);
});

test('a WebSocket that never opens is asked why, and a final answer ends it', async () => {
  FakeSocket.all = [];
  const asked = [];
  const baseUrl = await serve((request, response) => {
    asked.push([request.url, request.headers.authorization]);
    if (asked.length === 1) return answer(response, 426, {});
    return answer(response, 400, { detail: 'board: must be global or trending', field: 'board' });
  });
  const liverank = new Liverank({ baseUrl, WebSocket: FakeSocket, token: 't', random: quick });
  const failed = followed((onState) => liverank.ranking({ board: 'best', onState }));
  await until(() => FakeSocket.all.length === 1, 'a socket');
  assert.equal(new URL(FakeSocket.all[0].url).searchParams.get('access_token'), 't');
  FakeSocket.all[0].onclose();
  await until(() => FakeSocket.all.length === 2, 'another: the first answer was no reason to end');
  FakeSocket.all[1].onclose();
  const { states, error } = await failed;
  assert.deepEqual(states, ['connecting', 'waiting', 'connecting', 'failed']);
  assert.equal(error.problem.field, 'board');
  assert.deepEqual(asked, Array(2).fill(['/ws/videos?board=best&mode=delta', 'Bearer t']));
});
