/** The client in Node against a liverank of its own: through the front door and direct, with and without tokens, cut and resumed. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Liverank } from '../../clients/js/dist/node.js';
import { answerOf, send, settled } from './ask.mjs';
import { prepareServer } from './server.mjs';

const PATIENCE_MS = 60_000;

async function until(holds, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!holds()) {
    assert.ok(Date.now() < deadline, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A viewer who notes everything. */
function viewer(liverank, userid, options = {}) {
  const seen = { heard: [], connected: 0, state: '', error: null };
  seen.stream = liverank.comments('watched', {
    userid,
    onConnected: () => (seen.connected += 1),
    onComment: (comment) => seen.heard.push(comment.comment),
    onGap: (gap) => seen.heard.push(gap),
    onState: ({ state, error }) => Object.assign(seen, { state, error }),
    ...options,
  });
  return seen;
}

/** A list that notes its states. */
function watcher(liverank, options = {}) {
  const seen = { lists: [], state: '', error: null };
  seen.stream = liverank.ranking({ limit: 10, onList: (videos) => seen.lists.push(videos), onState: ({ state, error }) => Object.assign(seen, { state, error }), ...options });
  return seen;
}

/** Every viewer sees what is posted before, during and after a kill -9, each once and in order; lists come back. */
async function survivesKill(server, poster, viewers, lists) {
  const expected = [];
  const post = async (comment) => {
    await poster.postComment({ userid: 'poster', videoid: 'watched', comment });
    expected.push(comment);
  };
  const all = (holds) => viewers.every(holds);
  const everything = () => [...viewers, ...lists];
  await until(() => everything().every(({ state }) => state === 'live'), 'all connected');
  for (let i = 0; i < 5; i += 1) await post(`before ${i}`);
  await until(() => all(({ heard }) => heard.length >= 5), 'what was posted before');
  await server.kill();
  await until(() => everything().every(({ state }) => state !== 'live'), 'all lost');
  const posting = post('while it was away');
  await server.start();
  await posting;
  for (let i = 0; i < 5; i += 1) await post(`after ${i}`);
  await until(() => all(({ heard }) => heard.length >= expected.length), 'all of it');
  for (const { heard, connected } of viewers) {
    assert.deepEqual(heard, expected);
    assert.ok(connected >= 2);
  }
  const score = 2 * expected.length;
  await until(() => lists.every(({ lists }) => lists.at(-1)?.find(({ video_id }) => video_id === 'watched')?.score === score), 'the lists');
  for (const { stream } of everything()) stream.close();
  const page = await settled(() => poster.history('watched', { limit: 100 }), ({ comments }) => comments.length >= expected.length);
  assert.deepEqual(page.comments.map(({ comment }) => comment).toReversed(), expected);
}

describe('a system that asks nobody for a token', () => {
  let server;
  before(async () => {
    server = await prepareServer();
    await server.start();
  });
  after(() => server?.remove());

  test('viewers on both ways in see every comment once and in order, across kill -9', async () => {
    const liverank = new Liverank({ baseUrl: server.origin });
    const viewers = [viewer(liverank, 'front'), viewer(liverank, 'direct', { direct: true })];
    await survivesKill(server, liverank, viewers, [watcher(liverank), watcher(liverank, { mode: 'list' })]);
  });

  test('what is wrong ends a stream, and is named', async () => {
    const liverank = new Liverank({ baseUrl: server.origin });
    const nobody = viewer(liverank, '');
    const board = watcher(liverank, { board: 'best' });
    await until(() => nobody.state === 'failed' && board.state === 'failed', 'both ended');
    assert.deepEqual([nobody.error.status, nobody.error.problem.field], [400, 'userid']);
    assert.deepEqual([board.error.status, board.error.problem.field], [400, 'board']);
    await assert.rejects(liverank.postComment({ userid: 'u', videoid: 'v', comment: ' \t ' }), ({ status, problem }) => status === 400 && problem.field === 'comment');
    await settled(() => liverank.video('never-seen').then(() => 'a video', ({ status }) => status), (status) => status === 404);
  });

  test('a parameter that nobody knows is refused by name, wherever it is public', async () => {
    const paths = ['/videos', '/videos/cat', '/comments/cat', '/statistics', '/resolve/cat', '/connect?userid=u&videoid=v', '/ws/videos', '/ws/user/ana'];
    for (const path of paths) {
      const response = await answerOf(`${server.origin}${path}${path.includes('?') ? '&' : '?'}limt=1`);
      const problem = await response.json();
      assert.deepEqual([path, response.status, problem.field], [path, 400, 'limt']);
    }
    for (const path of ['/interact', '/interactions', '/comment', '/register', '/connect', '/client-statistics']) {
      const response = await answerOf(`${server.origin}${path}?limt=1`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' });
      const problem = await response.json();
      assert.deepEqual([path, response.status, problem.field], [path, 400, 'limt']);
    }
  });
});

describe('a system that asks viewers for tokens', () => {
  let server;
  before(async () => {
    server = await prepareServer({ more: ['--auth-dev'] });
    await server.start();
  });
  after(() => server?.remove());

  test('without a token a stream ends, and says why', async () => {
    const liverank = new Liverank({ baseUrl: server.origin });
    const streams = [viewer(liverank, 'ann'), watcher(liverank)];
    await until(() => streams.every(({ state }) => state === 'failed'), 'both ended');
    for (const { error } of streams) assert.equal(error.status, 401);
    await assert.rejects(liverank.interact({ video_id: 'v', user_id: 'ann', type: 'like' }), { status: 401 });
  });

  test('with a token of somebody else it ends as well', async () => {
    const liverank = new Liverank({ baseUrl: server.origin, token: server.token('ben') });
    const ann = viewer(liverank, 'ann');
    await until(() => ann.state === 'failed', 'the end');
    assert.deepEqual([ann.error.status, ann.error.problem.field], [403, 'userid']);
  });

  test('a token that is refused is renewed, and the stream goes on', async () => {
    let asked = 0;
    const good = server.token('ann');
    const token = async () => ((asked += 1) === 1 ? `${good.slice(0, -4)}AAAA` : good);
    const liverank = new Liverank({ baseUrl: server.origin, token });
    const ann = viewer(liverank, 'ann');
    await until(() => ann.state === 'live', 'a stream');
    ann.stream.close();
    assert.equal(asked, 2);
    asked = 0;
    const another = new Liverank({ baseUrl: server.origin, token });
    const list = watcher(another);
    await until(() => list.state === 'live', 'a list');
    list.stream.close();
    assert.equal(asked, 2);
  });

  test('a moderator rules, releases what waits and pins it, and a viewer is told', async () => {
    const mo = new Liverank({ baseUrl: server.origin, token: server.token('mo', '--role', 'moderator') });
    const ann = new Liverank({ baseUrl: server.origin, token: server.token('ann') });
    const post = (comment) => ann.postComment({ userid: 'ann', videoid: 'ruled', comment });
    const first = await post('the first one');
    const pins = [];
    const seen = { state: '' };
    const stream = ann.comments('ruled', { userid: 'ann', onPinned: ({ id }) => pins.push(id), onState: ({ state }) => (seen.state = state) });
    await until(() => seen.state === 'live', 'a stream');

    await assert.rejects(ann.setCommentRules({ videoid: 'ruled', rules: { hold_all: true } }), { status: 403 });
    await mo.setCommentRules({ videoid: 'ruled', rules: { hold_all: true } });
    assert.deepEqual((await settled(() => mo.commentRules(), ({ rules }) => rules.length === 1)).rules[0].rules, { hold_all: true });
    await settled(() => post('waits').then(() => mo.held()), ({ comments }) => comments.length > 0);
    const { comments } = await settled(() => mo.held({ limit: 1 }), ({ comments: waiting }) => waiting.length > 0);
    await mo.reviewHeld({ videoid: 'ruled', id: comments[0].id, outcome: 'release' });
    await settled(() => ann.history('ruled'), ({ comments: shown }) => shown.some(({ id }) => id === comments[0].id));
    await mo.removeCommentRules({ videoid: 'ruled' });
    await settled(() => mo.commentRules(), ({ rules }) => rules.length === 0);

    await mo.pinComment('ruled', first.id, { reason: 'news' });
    await until(() => pins.length === 1, 'the pin');
    assert.equal((await settled(() => ann.video('ruled'), ({ pinned }) => pinned)).pinned.comment, 'the first one');
    assert.equal((await settled(() => ann.history('ruled'), ({ pinned }) => pinned)).pinned.id, first.id);
    await mo.unpinComment('ruled');
    await until(() => pins.length === 2, 'the end of the pin');
    assert.deepEqual(pins, [first.id, null]);
    await settled(() => ann.video('ruled'), ({ pinned }) => pinned === undefined);
    stream.close();
    const { actions } = await settled(() => mo.moderationLog(), ({ actions: told }) => told.length >= 5);
    assert.deepEqual(actions.map(({ action }) => action), ['pin', 'pin', 'set_rules', 'review', 'set_rules']);
  });

  test('viewers with tokens see every comment once and in order, across kill -9', async () => {
    const as = (user) => new Liverank({ baseUrl: server.origin, token: () => server.token(user) });
    await survivesKill(server, as('poster'), [viewer(as('ann'), 'ann'), viewer(as('ben'), 'ben')], [watcher(as('ann'))]);
  });

  test('a token that is revoked in the middle of a stream and a list is renewed, and both go on', async () => {
    let asked = 0;
    let revokedAt = 0;
    // As an issuer does it: what it gives after a revocation is of a later second, and so not revoked.
    const token = async () => {
      asked += 1;
      while (Math.floor(Date.now() / 1_000) <= revokedAt) await new Promise((resolve) => setTimeout(resolve, 20));
      return server.token('rae');
    };
    const rae = new Liverank({ baseUrl: server.origin, token });
    const ben = new Liverank({ baseUrl: server.origin, token: server.token('ben') });
    const post = (comment) => ben.postComment({ userid: 'ben', videoid: 'renewed', comment });
    const states = [];
    const heard = [];
    const connected = [];
    let score = 0;
    const onState = (name) => ({ state, error }) => states.push([name, state, error?.message]);
    const chat = rae.comments('renewed', {
      userid: 'rae',
      onConnected: () => connected.push(asked),
      onComment: ({ comment }) => heard.push(comment),
      onGap: (gap) => heard.push(gap),
      onState: onState('stream'),
    });
    const list = rae.ranking({ onList: (videos) => (score = videos.find(({ video_id }) => video_id === 'renewed')?.score ?? 0), onState: onState('list') });
    const live = () => ['stream', 'list'].map((name) => states.filter(([of, state]) => of === name && state === 'live').length);
    await until(() => live().every((times) => times >= 1), 'both are live');
    assert.equal(asked, 1);
    await post('before');
    await until(() => heard.length === 1 && score === 2, 'what was posted before');

    revokedAt = Math.floor(Date.now() / 1_000);
    const headers = { authorization: `Bearer ${server.token('mo', '--role', 'moderator')}` };
    const revoked = await send('POST', server.origin, '/moderation/revocations', { sub: 'rae', reason: 'a lost phone' }, headers);
    assert.equal(revoked.status, 202);
    revokedAt = Math.floor(Date.now() / 1_000);
    // While the old token ends, and before there is another.
    for (let i = 1; i <= 3; i += 1) await post(`during ${i}`);
    await until(() => live().every((times) => times >= 2) && asked >= 2, 'both are live again');
    await post('after');
    await until(() => heard.length === 5 && score === 10, 'all of it');
    assert.deepEqual(heard, ['before', 'during 1', 'during 2', 'during 3', 'after']);
    assert.deepEqual(states.filter(([, state]) => state === 'failed'), []);
    assert.ok(asked >= 2 && asked <= 3, `${asked} tokens for one revocation`);
    // Where the list ends after the stream has another token, the list asks for one of its own.
    assert.ok(connected.length >= 2 && connected[0] === 1 && connected.at(-1) >= 2, `the stream came back with another token: ${connected}`);
    chat.close();
    list.close();
  });
});
