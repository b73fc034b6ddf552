/** What a page of comments shows after each change: plain data in, plain data out. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { after, inOrder, nothing } from '../dist/shown.js';

const comment = (seq) => ({ id: `c${seq}`, seq, comment: `number ${seq}` });
const page = (seqs, { upTo = 0, next = null, reason = 'start', ...more } = {}) => ({
  type: 'page',
  page: { comments: seqs.map(comment), next, upTo, for: reason, ...more },
});
const live = (seq) => ({ type: 'comment', comment: comment(seq) });
const deleted = (seq) => ({ type: 'deleted', id: `c${seq}` });
const numbers = (shown) => inOrder(shown).map(({ seq }) => seq);
const apply = (changes, keep = 10) => changes.reduce(after, nothing(keep));

test('comments stand in order, each once', () => {
  assert.deepEqual(numbers(apply([live(5), page([5, 4, 2]), live(6)])), [2, 4, 5, 6]);
});

test('a removed comment goes, and no page that was read before brings it back', () => {
  const shown = apply([page([3, 2, 1]), deleted(2), page([3, 2, 1], { reason: 'gap' }), deleted(4), live(4)]);
  assert.deepEqual(numbers(shown), [1, 3]);
});

test('a page takes away what was removed while nobody listened, and nothing that is newer than it', () => {
  const shown = apply([page([5, 4, 3, 2, 1]), live(8), page([5, 3], { reason: 'gap', upTo: 5, next: 3 })]);
  assert.deepEqual(numbers(shown), [1, 2, 3, 5, 8]);
  assert.deepEqual(numbers(after(shown, page([], { reason: 'gap', upTo: 8 }))), []);
});

test('what is pinned is shown until another is, none is, or it is removed', () => {
  const shown = apply([page([2, 1], { pinned: comment(1) })]);
  assert.equal(shown.pin.comment.id, 'c1');
  assert.equal(after(shown, { type: 'pinned', id: 'c2' }).pin.comment.id, 'c2');
  assert.equal(after(shown, { type: 'pinned', id: null }).pin, null);
  assert.equal(after(shown, deleted(1)).pin, null);
  assert.equal(apply([deleted(1), page([2], { pinned: comment(1) })]).pin, null);
  // A page that does not say what is pinned leaves it.
  assert.equal(after(shown, page([2, 1], { reason: 'gap' })).pin.comment.id, 'c1');
  assert.equal(after(shown, page([2, 1], { reason: 'gap', pinned: null })).pin, null);
});

test('a pinned comment that is not shown has no text until it is found', () => {
  const unknown = apply([{ type: 'pinned', id: 'c1' }]);
  assert.deepEqual(unknown.pin, { id: 'c1', comment: null });
  assert.equal(after(unknown, { type: 'found', comment: comment(1) }).pin.comment.seq, 1);
  assert.equal(after(unknown, { type: 'found', comment: comment(2) }).pin.comment, null);
});

test('what is left out above what is kept can be read again, page by page', () => {
  const shown = apply([page([2, 1]), live(3), live(4), live(5)], 3);
  assert.deepEqual([numbers(shown), shown.older], [[3, 4, 5], 3]);
  const more = after(shown, page([2, 1], { reason: 'older', upTo: 2 }));
  assert.deepEqual([numbers(more), more.older], [[1, 2, 3, 4, 5], null]);
  // The same page twice keeps no more than once.
  assert.equal(after(more, page([2, 1], { reason: 'older', upTo: 2 })).kept, 5);
});

test('removed ids are remembered within bounds', () => {
  const shown = apply(Array.from({ length: 1_500 }, (_, seq) => deleted(seq)));
  assert.equal(shown.removed.size, 1_000);
  assert.ok(shown.removed.has('c1499'));
});
