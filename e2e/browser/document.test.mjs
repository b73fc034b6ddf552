/** The documents against the system: their examples are sent, and what comes back is what they say. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import Ajv from 'ajv';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { createSseParser, Liverank } from '../../clients/js/dist/node.js';
import { answerOf, get, settled } from './ask.mjs';
import { WebSocket } from '../../clients/js/node_modules/ws/wrapper.mjs';
import { prepareServer } from './server.mjs';

let server;
let openapi;
let asyncapi;
// What examples cannot know: comments that are there, by the operation that asks for one.
const known = {};

before(async () => {
  server = await prepareServer({ more: ['--moderation-open'] });
  await server.start();
  openapi = await get(`${server.origin}/openapi.json`);
  asyncapi = await get(`${server.origin}/asyncapi.json`);
  // Something to be found.
  const liverank = new Liverank({ baseUrl: server.origin });
  await liverank.interact({ video_id: 'cat', user_id: 'ana', type: 'like' });
  await liverank.postComment({ userid: 'ana', videoid: 'cat', comment: 'hello' });
  // There is no reader to be had before the first has reported.
  await settled(() => send('/register', { videoid: 'cat' }), ({ ok }) => ok, 'a reader');
  await settled(() => fetch(`${server.origin}/videos/cat`), ({ ok }) => ok, 'the video is counted');
  const isAny = ({ comments }) => comments.length > 0;
  const commentOf = async (video) => (await settled(() => get(`${server.origin}/comments/${video}`), isAny, 'a comment is counted')).comments;
  const comments = await commentOf('cat');
  // What is removed is nothing that another test looks at.
  await liverank.interact({ video_id: 'old', user_id: 'ana', type: 'like' });
  await liverank.postComment({ userid: 'ana', videoid: 'old', comment: 'goodbye' });
  known.deleteComment = { videoid: 'old', id: (await commentOf('old'))[0].id };
  known.deleteVideo = { video_id: 'old' };
  known.pinComment = { videoid: 'cat', id: comments[0].id };
  known.reportComment = known.pinComment;
  known.decideReports = known.pinComment;
  await send(`/comments/cat/${comments[0].id}/reports`, { userid: 'cy', reason: 'other' });
  await settled(() => get(`${server.origin}/moderation/reports`), isAny, 'the report is shown');
  await send('/moderation/rules', { videoid: 'held', rules: { hold_all: true } });
  const held = await settled(() => send('/comment', { userid: 'ana', videoid: 'held', comment: 'hello' }), ({ status }) => status === 202, 'a comment is held');
  known.reviewHeldComment = { videoid: 'held', id: (await held.json()).comment.id };
  await settled(() => get(`${server.origin}/moderation/held`), isAny, 'the held comment is shown');
});

after(() => server?.remove());

const send = (path, body) =>
  answerOf(server.origin + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });

/** A check of values against a schema of `document`. */
function checker(document) {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addSchema({ $id: 'document', components: document.components });
  return (schema, value, what) => {
    const whole = JSON.parse(JSON.stringify(schema).replaceAll('"#/components/', '"document#/components/'));
    const valid = ajv.validate(whole, value);
    assert.ok(valid, `${what}: ${ajv.errorsText()}\n${JSON.stringify(value)}`);
  };
}

const resolved = (document, value) =>
  value?.$ref ? resolved(document, value.$ref.slice(2).split('/').reduce((at, name) => at[name], document)) : value;

/** Parameters of which one is needed, and which of them it is here. */
const NEEDED = { takeBackRevocation: 'jti' };

/** Where an operation's examples are sent: the path with its parameters, and those of the query that it needs. */
function address(path, item, operation) {
  let where = path;
  const query = new URLSearchParams();
  for (const parameter of [...(item.parameters ?? []), ...(operation.parameters ?? [])].map((one) => resolved(openapi, one))) {
    const example = known[operation.operationId]?.[parameter.name] ?? parameter.example;
    if (parameter.in === 'path') where = where.replace(`{${parameter.name}}`, example);
    else if (parameter.required || NEEDED[operation.operationId] === parameter.name) {
      assert.ok(example, `${parameter.name} of ${operation.operationId} has no example`);
      query.set(parameter.name, example);
    }
  }
  return query.size > 0 ? `${where}?${query}` : where;
}

/** Sends every example of one operation, and returns how many there were. */
async function sendExamples(check, method, path, item) {
  const operation = item[method];
  let sent = 0;
  const content = resolved(openapi, operation.requestBody)?.content ?? { none: { examples: { none: {} } } };
  for (const [type, { schema, examples }] of Object.entries(content)) {
    assert.ok(examples, `${method} ${path} has no example`);
    for (const [name, { value: printed }] of Object.entries(examples)) {
      const value = known[operation.operationId] ? { ...printed, ...known[operation.operationId] } : printed;
      const what = `${method} ${path} ${type} ${name}`;
      if (schema) check(schema, value, `the example of ${what}`);
      const body = type === 'none' ? undefined : typeof value === 'string' ? value : JSON.stringify(value);
      const init = { method: method.toUpperCase(), ...(body && { body, headers: { 'content-type': type } }) };
      const response = await answerOf(server.origin + address(path, item, operation), init);
      const answer = await response.text();
      const documented = resolved(openapi, operation.responses[response.status]);
      assert.ok(response.ok && documented, `${what} is answered ${response.status} ${answer}`);
      const kind = response.headers.get('content-type').split(';')[0];
      assert.ok(documented.content[kind], `${what} is answered in ${kind}`);
      if (kind === 'application/json') check(documented.content[kind].schema, JSON.parse(answer), `the answer of ${what}`);
      sent += 1;
    }
  }
  return sent;
}

test('every example is taken, and answered as the document says', async () => {
  const check = checker(openapi);
  const sent = { get: 0, post: 0, put: 0, delete: 0 };
  // What is there is asked for first, and taken away last.
  for (const method of Object.keys(sent)) {
    for (const [path, item] of Object.entries(openapi.paths)) {
      // Streams are below; without its handshake a WebSocket is none.
      if (!item[method] || path === '/connect' || path.startsWith('/ws/')) continue;
      sent[method] += await sendExamples(check, method, path, item);
    }
  }
  assert.ok(sent.get + sent.post >= 18 && sent.put >= 1 && sent.delete >= 7, JSON.stringify(sent));
});

test('times that the document takes are taken, and those that it refuses are refused', async () => {
  const ajv = new Ajv2020({ strict: false });
  addFormats(ajv);
  ajv.addSchema({ $id: 'document', components: openapi.components });
  const pattern = ajv.compile({ $ref: 'document#/components/schemas/Interaction/properties/timestamp' });
  const good = ['2024-02-29T10:00:00Z', '2026-01-31T23:59:59+05:30', '2026-12-30T00:00:00.5-09:30', '2026-11-29t08:00:00z', '1972-02-29T00:00:00+14:00'];
  const bad = ['2023-02-29T10:00:00Z', '2026-04-31T10:00:00Z', '2026-13-01T10:00:00Z', 'yesterday', '2026-01-31T24:00:00Z'];
  for (const [times, wanted] of [[good, 202], [bad, 400]]) {
    for (const timestamp of times) {
      const body = JSON.stringify({ video_id: 'cat', user_id: 'ana', type: 'view', timestamp });
      const response = await answerOf(`${server.origin}/interact`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
      assert.deepEqual([timestamp, response.status, pattern(timestamp)], [timestamp, wanted, wanted === 202]);
    }
  }
});

/** What a WebSocket sends until there are `count` messages; one that ends before is opened again. */
const messages = (path, count, meanwhile) => settled(() => messagesOfOne(path, count, meanwhile), () => true, path);

function messagesOfOne(path, count, meanwhile = () => {}) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(server.origin.replace('http', 'ws') + path);
    const seen = [];
    socket.on('message', (data) => {
      seen.push(JSON.parse(data));
      if (seen.length === 1) meanwhile();
      if (seen.length === count) {
        socket.close();
        resolve(seen);
      }
    });
    socket.on('error', reject);
    socket.on('close', (code) => reject(new Error(`closed with ${code} after ${seen.length} messages`)));
  });
}

const like = () => fetch(`${server.origin}/interact`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"video_id":"cat","user_id":"ana","type":"like"}' });

test('the AsyncAPI document is one', () => {
  const ajv = new Ajv({ strict: false, allErrors: true });
  addFormats(ajv);
  const schema = createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0-without-$id.json');
  assert.ok(ajv.validate(schema, asyncapi), ajv.errorsText());
});

test('what consumers write for other systems is what the AsyncAPI document says', () => {
  const check = checker(asyncapi);
  const fixtures = new URL('../../services/consumer/tests/fixtures/', import.meta.url);
  const messages = {
    comment: 'exportedComment', shadowed: 'exportedComment', deleted: 'exportedDeletion', pinned: 'exportedPin', removed: 'exportedRemoved',
    held: 'exportedHeld', moderation: 'exportedModeration', 'board-snapshot': 'exportedSnapshot', 'board-window': 'exportedSnapshot',
    'board-delta': 'exportedDelta', 'board-result': 'exportedResult',
  };
  const names = readdirSync(fixtures).filter((name) => name.startsWith('export-')).map((name) => name.slice(7, -5));
  assert.deepEqual(names.sort(), Object.keys(messages).sort());
  for (const name of names) {
    const record = JSON.parse(readFileSync(new URL(`export-${name}.json`, fixtures)));
    check(asyncapi.components.messages[messages[name]].payload, record, `the fixture of ${name}`);
  }
});

test('streams carry what the AsyncAPI document says', async () => {
  const check = checker(asyncapi);
  const payload = (name) => asyncapi.components.messages[name].payload;
  for (const [name, { examples }] of Object.entries(asyncapi.components.messages)) {
    for (const example of examples) check(payload(name), example.payload, `the example of ${name}`);
  }
  check(payload('list'), (await messages('/ws/videos', 1))[0], 'a list');
  check(payload('ownList'), (await messages('/ws/user/ana', 1))[0], "an owner's list");
  const [snapshot, delta] = await messages('/ws/videos?mode=delta', 2, like);
  check(payload('snapshot'), snapshot, 'a snapshot');
  check(payload('delta'), delta, 'a delta');

  // From a place before everything: the greeting, then the comment; from one that is none: a gap.
  const events = async (query, count) => {
    const abort = new AbortController();
    const response = await answerOf(`${server.origin}/connect?userid=ana&videoid=cat${query}`, { signal: abort.signal });
    const seen = [];
    const parser = createSseParser({
      // What a viewer did not ask for has a number and no data.
      onEvent: (event) => event.data && seen.push({ ...event, data: JSON.parse(event.data) }),
    });
    const text = new TextDecoder();
    for await (const part of response.body) {
      parser.feed(text.decode(part, { stream: true }));
      if (seen.length >= count) break;
    }
    abort.abort();
    return seen;
  };
  const [greeting] = await events('', 1);
  check(payload('connected'), greeting.data, 'a greeting');
  const numbering = greeting.id.slice(0, greeting.id.lastIndexOf('-'));
  const [, comment] = await events(`&last_event_id=${numbering}-0`, 2);
  check(payload('comment'), comment.data, 'a comment');
  const gap = (await events('&last_event_id=other-1', 2)).find(({ type }) => type === 'gap');
  check(payload('gap'), gap.data, 'a gap');
});
