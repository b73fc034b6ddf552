import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CommentPosition,
  applyRankingMessage,
  backoffDelay,
  compareRanked,
  compareUtf8,
  createSseParser,
  retryAfterMs,
} from '../dist/index.js';

/** Feeds the pieces to a fresh parser and returns all that it said. */
function parse(...pieces) {
  const said = [];
  const parser = createSseParser({ onEvent: (event) => said.push(event), onRetry: (ms) => said.push(ms) });
  for (const piece of pieces) parser.feed(piece);
  return said;
}

test('a stream reads the same wherever it is cut', () => {
  const stream =
    '\ufeffretry: 1500\r\nid: n1-7\r\ndata: {"type":"connected"}\r\n\r\n: keep-alive\n\nevent: gap\rid: n1-9\rdata: a\rdata:b\r\rid: n1-10\ndata\ndata:  two spaces\n\n';
  const whole = parse(stream);
  assert.deepEqual(whole, [
    1500,
    { type: 'message', data: '{"type":"connected"}', id: 'n1-7' },
    { type: 'gap', data: 'a\nb', id: 'n1-9' },
    { type: 'message', data: '\n two spaces', id: 'n1-10' },
  ]);
  for (let cut = 1; cut < stream.length; cut += 1) {
    assert.deepEqual(parse(stream.slice(0, cut), stream.slice(cut)), whole, `cut at ${cut}`);
  }
  assert.deepEqual(parse(...stream), whole, 'one character at a time');
});

test('an event that never ends, a bad retry and an id with NUL are not believed', () => {
  assert.deepEqual(parse('data: half an event\n'), []);
  assert.deepEqual(parse('retry: soon\nid: a\0b\ndata: x\n\n'), [{ type: 'message', data: 'x', id: '' }]);
  assert.deepEqual(parse('event: gap\n\ndata: x\n\n'), [{ type: 'message', data: 'x', id: '' }]);
});

test('a stream that never ends a line or an event is refused instead of filling the memory', () => {
  assert.throws(() => parse('data: ', 'x'.repeat((1 << 20) + 1)), /too long/);
  assert.throws(() => parse(...Array.from({ length: 200 }, () => `data: ${'x'.repeat(1 << 13)}\n`)), /too long/);
});

test('ids compare by their UTF-8 bytes', () => {
  const ids = ['', 'a', 'ab', 'b', 'Z', '\u007f', '\u0080', '\u00e9', '\ud7ff', '\ue000', '\uffff', '\u{10000}', '\u{10ffff}', 'a\uffff', 'a\u{1f600}'];
  for (const a of ids) {
    for (const b of ids) {
      assert.equal(Math.sign(compareUtf8(a, b)), Buffer.compare(Buffer.from(a), Buffer.from(b)), `${escape(a)} ? ${escape(b)}`);
    }
  }
});

test('a ranked list is ordered by score, ties by the bytes of the id, both descending', () => {
  const list = ['a', '\uffff', '\u{10000}'].map((id) => ({ video_id: id, score: 1 })).concat({ video_id: '0', score: 2 });
  assert.deepEqual(list.sort(compareRanked).map((video) => video.video_id), ['0', '\u{10000}', '\uffff', 'a']);
});

test('deltas rebuild the list that a snapshot would have given', () => {
  const video = (id, score) => ({ video_id: id, score, user_id: `owner of ${id}` });
  let random = 42;
  const next = (below) => {
    random = (random * 1103515245 + 12345) % 2 ** 31;
    return random % below;
  };
  let truth = new Map();
  let state = applyRankingMessage(null, { type: 'snapshot', version: 0, videos: [] });
  for (let version = 1; version <= 300; version += 1) {
    const after = new Map(truth);
    for (let i = next(4); i >= 0; i -= 1) {
      const id = `v${next(12)}`;
      if (next(5) === 0) after.delete(id);
      else after.set(id, video(id, next(6)));
    }
    const remove = [...truth.keys()].filter((id) => !after.has(id));
    const set = [...after.values()].filter((now) => truth.get(now.video_id)?.score !== now.score);
    const before = structuredClone(state);
    const changed = applyRankingMessage(state, { type: 'delta', base: version - 1, version, remove, set });
    assert.deepEqual(state, before, 'the state that was given is left alone');
    state = changed;
    truth = after;
    assert.deepEqual(state, { version, videos: [...truth.values()].sort(compareRanked) });
  }
});

test('a line that comes without metadata keeps those that it had', () => {
  const line = (score, more = {}) => ({ video_id: 'a', score, user_id: 'u', ...more });
  const metadata = { title: 'Cats' };
  const deltas = [[line(2)], [line(2, { metadata: null })], [line(3)], [line(3, { metadata })]];
  let state = applyRankingMessage(null, { type: 'snapshot', version: 1, videos: [line(1, { metadata })] });
  const seen = deltas.map((set, at) => {
    state = applyRankingMessage(state, { type: 'delta', base: at + 1, version: at + 2, remove: [], set });
    return state.videos[0];
  });
  assert.deepEqual(seen, [line(2, { metadata }), line(2, { metadata: null }), line(3, { metadata: null }), line(3, { metadata })]);
  // Who left the list and comes back has nothing of what it had.
  state = applyRankingMessage(state, { type: 'delta', base: 5, version: 6, remove: ['a'], set: [] });
  state = applyRankingMessage(state, { type: 'delta', base: 6, version: 7, remove: [], set: [line(4, { metadata: null })] });
  assert.deepEqual(state.videos, [line(4, { metadata: null })]);
});

test('a delta on another version asks for a snapshot, and a snapshot is taken at any time', () => {
  const state = { version: 4, videos: [] };
  const delta = { type: 'delta', base: 5, version: 6, remove: [], set: [] };
  assert.equal(applyRankingMessage(state, delta), null);
  assert.equal(applyRankingMessage(null, delta), null);
  assert.equal(applyRankingMessage(state, { type: 'of a later release' }), state);
  const videos = [{ video_id: 'a', score: 1, user_id: 'u' }];
  assert.deepEqual(applyRankingMessage(state, { type: 'snapshot', version: 2, videos }), { version: 2, videos });
});

test('pauses grow, stay below the cap and use all of the range', () => {
  const longest = [0, 1, 2, 3, 4, 5, 40].map((attempt) => backoffDelay(attempt, { random: () => 1 }));
  assert.deepEqual(longest, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  assert.equal(backoffDelay(9, { random: () => 0 }), 0);
  assert.equal(backoffDelay(1, { random: () => 0.5, baseMs: 100, capMs: 150 }), 75);
});

test('Retry-After is read as seconds or as a date, and never beyond a minute', () => {
  const now = Date.parse('2024-05-01T12:00:00Z');
  assert.equal(retryAfterMs('2', now), 2000);
  assert.equal(retryAfterMs('Wed, 01 May 2024 12:00:05 GMT', now), 5000);
  assert.equal(retryAfterMs('Wed, 01 May 2024 11:00:00 GMT', now), 0);
  assert.equal(retryAfterMs('86400', now), 60_000);
  assert.equal(retryAfterMs('soon', now), null);
  assert.equal(retryAfterMs(null, now), null);
});

const greeting = (id) => ({ type: 'message', data: '{"type":"connected","instance":"reader-1"}', id });
const comment = (id) => ({ type: 'message', data: JSON.stringify({ id: `c-${id}`, comment: 'hi', seq: Number(id.split('-')[1]) }), id });
const seen = (position, ...events) =>
  events
    .flatMap((event) => position.take(event))
    .map(({ comment: one, gap, connected }) => (one ? one.id : gap ? `gap ${gap.from}-${gap.to}` : connected.type));

test('a viewer sees each comment once and in order, and hears of every hole', () => {
  const position = new CommentPosition();
  assert.deepEqual(seen(position, greeting('n1-5'), comment('n1-6'), comment('n1-6'), comment('n1-5'), comment('n1-7')), [
    'connected',
    'c-n1-6',
    'c-n1-7',
  ]);
  assert.deepEqual(seen(position, comment('n1-10')), ['gap 8-9', 'c-n1-10']);
  const gap = { type: 'gap', data: '{"from":11,"to":20,"reason":"slow"}', id: 'n1-20' };
  assert.deepEqual(seen(position, gap, comment('n1-20'), comment('n1-21')), ['gap 11-20', 'c-n1-21']);
  assert.equal(position.lastEventId, 'n1-21');
});

test('the greeting of a reconnect does not hide what is sent after it', () => {
  const position = new CommentPosition('n1-3');
  assert.deepEqual(seen(position, greeting('n1-9'), comment('n1-4'), comment('n1-5')), ['connected', 'c-n1-4', 'c-n1-5']);
});

test('a new numbering starts afresh', () => {
  const position = new CommentPosition('n1-900');
  assert.deepEqual(seen(position, comment('n2-1'), comment('n2-2')), ['c-n2-1', 'c-n2-2']);
  assert.equal(position.lastEventId, 'n2-2');
});

test('what is no event of ours changes nothing', () => {
  const position = new CommentPosition('n1-1');
  assert.deepEqual(position.take({ type: 'moved', data: '{}', id: 'n1-8' }), []);
  assert.equal(position.lastEventId, 'n1-1');
  assert.throws(() => position.take({ type: 'message', data: 'not JSON', id: 'n1-2' }), SyntaxError);
});
