/** The sample app in Chromium, on another origin than liverank: ranking, comments, posting, an outage, tokens. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Liverank } from '../../clients/js/dist/node.js';
import { launch } from './chromium.mjs';
import { serveLiveShow } from './live-show.mjs';
import { prepareServer } from './server.mjs';

let server;
let app;
let browser;
const contexts = [];

before(async () => {
  server = await prepareServer({ more: ['--auth-dev'] });
  await server.start();
  app = await serveLiveShow();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await app?.close();
  await server?.remove();
});

afterEach(() => Promise.all(contexts.splice(0).map((context) => context.close())));

async function open(user, token) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  context.setDefaultTimeout(30_000);
  contexts.push(context);
  const page = await context.newPage();
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(String(error)));
  await page.goto(`${app.origin}/?${new URLSearchParams({ liverank: server.origin, user, token })}`);
  return page;
}

const chat = (page) => page.getByRole('list', { name: 'Comments' });
const said = (page, text) => chat(page).getByText(text, { exact: true }).waitFor();

async function say(page, text) {
  await page.getByLabel('Your comment').fill(text);
  await page.getByRole('button', { name: 'Send' }).click();
}

test('two viewers talk, likes move the ranking, and an outage costs nothing', async () => {
  const [ann, ben] = [await open('ann', server.token('ann')), await open('ben', server.token('ben'))];
  for (const page of [ann, ben]) await page.locator('.pill.live').waitFor();
  await say(ann, 'hello from ann');
  await said(ben, 'hello from ann');
  await ann.getByRole('button', { name: 'The harbour at dawn' }).click();
  await ben.getByRole('button', { name: 'The harbour at dawn' }).click();
  for (let i = 0; i < 3; i += 1) await ben.getByRole('button', { name: 'Share' }).click();
  await ann.locator('.ranking li').first().getByText('The harbour at dawn').waitFor();
  await say(ben, 'before the outage');
  await said(ann, 'before the outage');
  await server.kill();
  await ann.locator('.pill.waiting').waitFor();
  await say(ann, 'during the outage');
  await server.start();
  await said(ben, 'during the outage');
  const texts = await chat(ben).locator('li').allTextContents();
  assert.deepEqual(texts, ['ben before the outage', 'ann during the outage']);
  assert.deepEqual([...ann.errors, ...ben.errors], []);
});

test('a long history is read from its end, and older pages on request', async () => {
  const poster = new Liverank({ baseUrl: server.origin, token: () => server.token('vera') });
  for (let i = 1; i <= 70; i += 1) await poster.postComment({ userid: 'vera', videoid: 'northern-lights', comment: `number ${i}.` });
  const page = await open('ann', server.token('ann'));
  await said(page, 'number 70.');
  assert.equal(await chat(page).getByText('number 1.', { exact: true }).count(), 0);
  await page.getByRole('button', { name: 'Older comments' }).click();
  await said(page, 'number 1.');
});

test('a comment that is removed goes from every page, and the one that is pinned stands above them', async () => {
  const pages = [await open('ann', server.token('ann')), await open('ben', server.token('ben'))];
  const author = new Liverank({ baseUrl: server.origin, token: server.token('vera') });
  const moderator = new Liverank({ baseUrl: server.origin, token: server.token('mo', '--role', 'moderator') });
  const post = (comment) => author.postComment({ userid: 'vera', videoid: 'northern-lights', comment });
  const [rude, rules] = [await post('something rude'), await post('be kind to each other')];
  for (const page of pages) await said(page, 'be kind to each other');
  await author.deleteComment('northern-lights', rude.id);
  await moderator.pinComment('northern-lights', rules.id);
  const pinned = (page) => page.getByRole('note', { name: 'Pinned comment' });
  for (const page of pages) {
    await pinned(page).getByText('be kind to each other').waitFor();
    assert.equal(await chat(page).getByText('something rude', { exact: true }).count(), 0);
  }
  // One that comes later finds it pinned.
  const late = await open('cleo', server.token('cleo'));
  await pinned(late).getByText('be kind to each other').waitFor();
  await moderator.unpinComment('northern-lights');
  for (const page of [...pages, late]) await pinned(page).waitFor({ state: 'detached' });
});

test('a comment that waits for a moderator is said to wait, and is shown once it is released', async () => {
  const moderator = new Liverank({ baseUrl: server.origin, token: server.token('mo', '--role', 'moderator') });
  await moderator.setCommentRules({ videoid: 'tiny-robots', rules: { words: [{ action: 'hold', words: ['robots'] }] } });
  const vera = new Liverank({ baseUrl: server.origin, token: server.token('vera') });
  // The rule is in force within a second.
  const deadline = Date.now() + 10_000;
  while (!(await vera.postComment({ userid: 'vera', videoid: 'tiny-robots', comment: 'robots' })).held) assert.ok(Date.now() < deadline);
  const ann = await open('ann', server.token('ann'));
  await ann.getByRole('button', { name: 'Tiny robots' }).click();
  await say(ann, 'robots win');
  await ann.getByText('Your comment waits for a moderator.').waitFor();
  // The log's way into the queue takes a moment.
  let held;
  for (const until = Date.now() + 10_000; !held; held = (await moderator.held()).comments.find(({ userid }) => userid === 'ann')) assert.ok(Date.now() < until);
  assert.equal(held.comment, 'robots win');
  assert.equal(await chat(ann).getByText('robots win', { exact: true }).count(), 0);
  await moderator.reviewHeld({ videoid: 'tiny-robots', id: held.id, outcome: 'release' });
  await said(ann, 'robots win');
  await moderator.removeCommentRules({ videoid: 'tiny-robots' });
});

test('without a token it says what is wrong, and does not try for ever', async () => {
  const page = await open('ann', '');
  await page.locator('.pill.failed').getByText('401').waitFor();
  await page.locator('.chat').getByText('401').waitFor();
});
