/** The sample app in Chromium, on another origin than liverank: ranking, comments, posting, an outage, moderation, tokens. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Liverank } from '../../clients/js/dist/node.js';
import { settled } from './ask.mjs';
import { launch } from './chromium.mjs';
import { serveLiveShow, startDemo } from './live-show.mjs';
import { prepareServer } from './server.mjs';

/** For whatever another process has to do, on a busy machine, in ms. */
const PATIENCE_MS = 30_000;

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
  context.setDefaultTimeout(PATIENCE_MS);
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
  await ann.getByText('2 watching').waitFor();
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
  const texts = await chat(ben).locator('li .text').allTextContents();
  assert.deepEqual(texts, ['before the outage', 'during the outage']);
  assert.deepEqual([...ann.errors, ...ben.errors], []);
});

test('a long history is read from its end, and older pages on request', async () => {
  const poster = new Liverank({ baseUrl: server.origin, token: () => server.token('vera') });
  for (let i = 1; i <= 70; i += 1) await poster.postComment({ userid: 'vera', videoid: 'northern-lights', comment: `number ${i}.` });
  // All are counted: what is counted only after the page has read the history comes by the stream, below an earlier page.
  await settled(() => poster.history('northern-lights', { limit: 1 }), ({ comments }) => comments[0]?.comment === 'number 70.');
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

test('a reply shows what it replies to, and nothing of a comment that was removed', async () => {
  const [ann, ben] = [await open('ann', server.token('ann')), await open('ben', server.token('ben'))];
  for (const page of [ann, ben]) await page.getByRole('button', { name: 'Bringing records' }).click();
  await say(ann, 'who bakes with rye?');
  await said(ben, 'who bakes with rye?');
  const line = (page, text) => chat(page).locator('li').filter({ has: page.locator('.text', { hasText: text }) });
  await line(ben, 'who bakes').hover();
  await line(ben, 'who bakes').getByRole('button', { name: 'Reply to ann' }).click();
  await ben.getByText('You reply to ann.').waitFor();
  await say(ben, 'I do');
  for (const page of [ann, ben]) await line(page, 'I do').locator('.quote', { hasText: 'ann: who bakes with rye?' }).waitFor();
  assert.equal(await ben.getByText('You reply to ann.').count(), 0);
  await line(ann, 'who bakes').hover();
  await line(ann, 'who bakes').getByRole('button', { name: 'Delete the comment of ann' }).click();
  for (const page of [ann, ben]) {
    await line(page, 'I do').locator('.quote', { hasText: 'an earlier comment' }).waitFor();
    assert.equal(await page.getByText('who bakes').count(), 0);
  }
  const late = await open('cleo', server.token('cleo'));
  await late.getByRole('button', { name: 'Bringing records' }).click();
  await line(late, 'I do').locator('.quote', { hasText: 'an earlier comment' }).waitFor();
  assert.deepEqual([...ann.errors, ...ben.errors, ...late.errors], []);
});

test('a comment that waits for a moderator is said to wait, and is shown once it is released', async () => {
  const moderator = new Liverank({ baseUrl: server.origin, token: server.token('mo', '--role', 'moderator') });
  await moderator.setCommentRules({ videoid: 'tiny-robots', rules: { words: [{ action: 'hold', words: ['robots'] }] } });
  const vera = new Liverank({ baseUrl: server.origin, token: server.token('vera') });
  // The rule is in force within a second.
  await settled(() => vera.postComment({ userid: 'vera', videoid: 'tiny-robots', comment: 'robots' }), ({ held }) => held);
  const ann = await open('ann', server.token('ann'));
  await ann.getByRole('button', { name: 'Tiny robots' }).click();
  await say(ann, 'robots win');
  await ann.getByText('Your comment waits for a moderator.').waitFor();
  // The log's way into the queue takes a moment.
  const { comments: waiting } = await settled(() => moderator.held(), ({ comments }) => comments.some(({ userid }) => userid === 'ann'));
  const held = waiting.find(({ userid }) => userid === 'ann');
  assert.equal(held.comment, 'robots win');
  assert.equal(await chat(ann).getByText('robots win', { exact: true }).count(), 0);
  await moderator.reviewHeld({ videoid: 'tiny-robots', id: held.id, outcome: 'release' });
  await said(ann, 'robots win');
  await moderator.removeCommentRules({ videoid: 'tiny-robots' });
});

test('a viewer reports, an author deletes, a moderator pins, deletes and bans, and everybody sees it', async () => {
  const ann = await open('ann', server.token('ann'));
  const ben = await open('ben', server.token('ben'));
  const mo = await open('mo', server.token('mo', '--role', 'moderator'));
  for (const page of [ann, ben, mo]) await page.getByRole('button', { name: 'Endgames' }).click();
  for (const text of ['welcome all', 'buy my rooks', 'a slip']) {
    await say(ann, text);
    for (const page of [ann, ben, mo]) await said(page, text);
  }
  const line = (page, text) => chat(page).locator('li', { hasText: text });
  const press = async (page, text, name) => {
    await line(page, text).hover();
    await line(page, text).getByRole('button', { name }).click();
  };
  // A viewer reports others' comments and removes none; an author removes its own.
  assert.deepEqual(await line(ben, 'a slip').getByRole('button').allTextContents(), ['Reply', 'Report']);
  assert.deepEqual(await line(ann, 'a slip').getByRole('button').allTextContents(), ['Reply', 'Delete']);
  await press(ann, 'a slip', 'Delete the comment of ann');
  for (const page of [ann, ben, mo]) await line(page, 'a slip').waitFor({ state: 'detached' });
  await press(ben, 'buy my rooks', 'Report the comment of ann');
  await ben.getByLabel('What is wrong').selectOption('spam');
  await ben.getByLabel('In your words').fill('sells rooks');
  await ben.getByRole('dialog').getByRole('button', { name: 'Report' }).click();
  await ben.getByText('A moderator will look at it.').waitFor();
  const moderator = new Liverank({ baseUrl: server.origin, token: server.token('mo', '--role', 'moderator') });
  const { comments: [reported] } = await settled(() => moderator.reports(), ({ comments }) => comments.length > 0);
  assert.deepEqual([reported.comment, reported.reports[0].text], ['buy my rooks', 'sells rooks']);
  // A moderator.
  await press(mo, 'welcome all', 'Pin the comment of ann');
  for (const page of [ann, ben, mo]) await page.getByRole('note', { name: 'Pinned comment' }).getByText('welcome all').waitFor();
  await press(mo, 'buy my rooks', 'Delete the comment of ann');
  for (const page of [ann, ben, mo]) await line(page, 'buy my rooks').waitFor({ state: 'detached' });
  await press(mo, 'welcome all', 'Ban ann');
  await mo.getByRole('dialog').getByRole('button', { name: 'Ban' }).click();
  await mo.getByText('ann is banned from this chat.').waitFor();
  await mo.getByRole('note').getByRole('button', { name: 'Unpin' }).click();
  for (const page of [ann, ben, mo]) await page.getByRole('note').waitFor({ state: 'detached' });
  // In force within a second: what is said before that is taken.
  const refused = ann.locator('.chat .problem', { hasText: 'ban' });
  for (const until = Date.now() + PATIENCE_MS; !(await refused.isVisible()); ) {
    assert.ok(Date.now() < until, 'the ban is in force');
    const answered = ann.waitForResponse((response) => new URL(response.url()).pathname === '/comment' && response.status() !== 503);
    await say(ann, 'still here?');
    await answered;
    await ann.getByRole('button', { name: 'Send', exact: true }).waitFor();
  }
  assert.deepEqual([...ann.errors, ...ben.errors, ...mo.errors], []);
});

test('the demo starts the system and the page in one command, and ends both', async () => {
  const demo = await startDemo();
  try {
    assert.equal(demo.links.length, 3);
    const pages = [];
    for (const link of demo.links) {
      const context = await browser.newContext();
      // Vite compiles what the first page asks for.
      context.setDefaultTimeout(90_000);
      contexts.push(context);
      const page = await context.newPage();
      await page.goto(link);
      await page.locator('.pill.live').waitFor();
      pages.push(page);
    }
    const [ann, ben, mo] = pages;
    await ben.getByText('You are ben', { exact: true }).waitFor();
    await mo.getByText('You are mo, a moderator').waitFor();
    await say(ann, 'hello from the demo');
    for (const page of [ben, mo]) await said(page, 'hello from the demo');
  } finally {
    await demo.end();
  }
  await assert.rejects(fetch(demo.origin), 'the system has ended, too');
});

test('without a token it says what is wrong, and does not try for ever', async () => {
  const page = await open('ann', '');
  await page.locator('.pill.failed').getByText('401').waitFor();
  await page.locator('.chat').getByText('401').waitFor();
});
