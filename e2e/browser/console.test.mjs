/** The console page in headless Chromium, against a liverank of its own. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import * as ask from './ask.mjs';
import { launch } from './chromium.mjs';
import { prepareServer } from './server.mjs';
import { isOfBusyPart } from './watched.mjs';

const PATIENCE_MS = 30_000;

let server;
let browser;
let contexts = [];
/** What a page complained about and should not have. */
let complaints = [];
/** While the server is away, connections fail, and the browser says so by itself. */
let away = false;
/**
 * What the browser says then: a connection that fails; a part of the server that is not up yet (502, 503); and 426, the answer
 * to a client that asks why its WebSocket did not open when the server is back by then.
 */
const WHILE_AWAY = /net::ERR_|WebSocket connection to .* failed|status of (426|502|503) /;

before(async () => {
  server = await prepareServer();
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

afterEach(async () => {
  await Promise.all(contexts.splice(0).map((context) => context.close()));
  const seen = complaints;
  complaints = [];
  assert.deepEqual(seen, [], 'the page complains to the console');
});

async function newContext(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  contexts.push(context);
  return context;
}

async function openPage(context, video = '') {
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (isOfBusyPart(message)) return;
    const failedConnection = away && WHILE_AWAY.test(message.text());
    // That a video is new is a 404, and the browser prints every one of them.
    const newVideo = /status of 404/.test(message.text()) && new URL(message.location().url).pathname.startsWith('/videos/');
    if (['error', 'warning'].includes(message.type()) && !failedConnection && !newVideo) complaints.push(message.text());
  });
  const response = await page.goto(`${server.origin}/#${encodeURIComponent(video)}`);
  assert.match(response.headers()['content-security-policy'] ?? '', /default-src 'self'/);
  await pill(page, 'Live');
  return page;
}

const pill = (page, word) => page.locator('#state-word', { hasText: word }).waitFor();
const until = (page, what, argument) => page.waitForFunction(what, argument, { timeout: PATIENCE_MS });
const titles = (page) => page.locator('#ranking-list .title').allTextContents();
const texts = (page) => page.locator('#comment-list .comment .text').allTextContents();

/** Waits until the comments of the open video are these, newest first, each acknowledged and seen in the stream. */
async function commentsAre(page, expected) {
  const settled = (wanted) => {
    const shown = [...document.querySelectorAll('#comment-list .comment')];
    const done = shown.every((comment) => comment.className === 'comment');
    return done && shown.length >= wanted;
  };
  await until(page, settled, expected.length);
  assert.deepEqual(await texts(page), expected);
}

async function say(page, text) {
  await page.getByLabel('Your comment').fill(text);
  await page.getByRole('button', { name: 'Post' }).click();
}

async function send(page, video, interaction) {
  await page.getByLabel('Video id').fill(video);
  await page.getByRole('group', { name: 'Send an interaction' }).getByRole('button', { name: interaction, exact: true }).click();
  await page.locator('#send-note', { hasText: `for ${video} is in the log` }).waitFor();
}

/** Posts as somebody else does, past the page. */
const post = (path, body) => ask.post(server.origin, path, body);

/** Presses Tab until the focus is on what `matches` selects. */
async function tabTo(page, matches) {
  for (let i = 0; i < 60; i += 1) {
    if (await page.evaluate((selector) => document.activeElement.matches(selector), matches)) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`the keyboard does not reach ${matches}`);
}

const widerThanScreen = (page) =>
  page.evaluate(() =>
    [document.documentElement, ...document.body.querySelectorAll('*')]
      .filter((element) => element.getBoundingClientRect().right > innerWidth + 0.5 && !element.closest('.sr-only, svg'))
      .map((element) => `${element.tagName}.${element.className}`)
      .concat(document.documentElement.scrollWidth > innerWidth ? ['the page scrolls sideways'] : []),
  );

test('an empty system invites, on a phone too, and sample traffic fills it', async () => {
  const phone = await openPage(await newContext({ viewport: { width: 360, height: 740 } }));
  await phone.getByRole('button', { name: 'Send sample traffic' }).waitFor();
  assert.deepEqual(await widerThanScreen(phone), []);
  const page = await openPage(await newContext());
  await page.getByText('nothing has been watched yet').waitFor();
  await page.getByRole('button', { name: 'Send sample traffic' }).click();
  await page.locator('#send-note', { hasText: '36 sample interactions and comments are in the log' }).waitFor();
  await until(page, () => document.querySelectorAll('#ranking-list .row').length === 6);
  await until(phone, () => document.querySelectorAll('#ranking-list .row').length === 6);
  assert.equal(await page.getByText('nothing has been watched yet').isVisible(), false);
});

test('buttons send interactions, and the ranking moves', async () => {
  const page = await openPage(await newContext());
  // Above all that sample traffic can reach.
  for (let i = 0; i < 40; i += 1) await post('/interact', { video_id: 'alpha', user_id: 'ana', type: 'share' });
  for (let i = 0; i < 39; i += 1) await post('/interact', { video_id: 'beta', user_id: 'ben', type: 'share' });
  await until(page, () => document.querySelector('#ranking-list .row:nth-child(2) .title')?.textContent === 'beta');
  assert.deepEqual((await titles(page)).slice(0, 2), ['alpha', 'beta']);
  for (const interaction of ['View', 'Like', 'Share']) await send(page, 'beta', interaction);
  await page.getByLabel('Seconds watched').fill('12');
  await send(page, 'beta', 'Watch');
  await until(page, () => document.querySelector('#ranking-list .row .title').textContent === 'beta');
  assert.deepEqual((await titles(page)).slice(0, 2), ['beta', 'alpha']);
  const first = page.locator('#ranking-list .row').first();
  await first.locator('.score', { hasText: String(39 * 3 + 1 + 2 + 3 + 2) }).waitFor();
  assert.equal(await first.locator('.owner').textContent(), 'by ben');
  await page.locator('[data-figure="watch_time_total"]', { hasText: '12 s' }).waitFor();
  await page.locator('[data-figure="shares"]', { hasText: '40' }).waitFor();
  // In haste and back, too: a connection that is given up before it is open is no failure.
  await page.evaluate(async () => {
    const boards = document.querySelectorAll('input[name="board"]');
    for (let i = 0; i < 10; i += 1) {
      boards[(i + 1) % 2].click();
      await new Promise(requestAnimationFrame);
    }
  });
  await page.getByRole('radio', { name: 'Trending' }).check();
  await until(page, () => document.querySelectorAll('#ranking-list .row').length >= 8);
});

test('a row keeps the focus while it moves, and nothing glides for those who want calm', async () => {
  const page = await openPage(await newContext({ reducedMotion: 'reduce' }), 'alpha');
  await page.locator('#ranking-list button[data-video="alpha"]').focus();
  const before = await titles(page);
  for (let i = 0; i < 5; i += 1) await post('/interact', { video_id: 'alpha', user_id: 'ana', type: 'share' });
  await until(page, () => document.querySelector('#ranking-list .row .title').textContent === 'alpha');
  assert.notEqual(before[0], 'alpha');
  assert.equal(await page.evaluate(() => document.activeElement.dataset.video), 'alpha');
  const gliding = () => [...document.querySelectorAll('#ranking-list .row')].flatMap((row) => row.getAnimations()).length;
  assert.equal(await page.evaluate(gliding), 0);
});

test('a comment that is posted is seen, in this tab and in another', async () => {
  const context = await newContext();
  const [one, other] = [await openPage(context, 'two-tabs'), await openPage(context, 'two-tabs')];
  await one.getByLabel('Your name').fill('Ana');
  await say(one, 'from the one');
  await commentsAre(one, ['from the one']);
  await commentsAre(other, ['from the one']);
  await say(other, 'from the other <b>tab</b> & more');
  const both = ['from the other <b>tab</b> & more', 'from the one'];
  await commentsAre(one, both);
  await commentsAre(other, both);
  assert.equal(await one.locator('#comment-list .author').last().textContent(), 'Ana');
  await until(one, () => /[1-9]/.test(document.getElementById('readers-sum').textContent));
  // A tab that is opened later finds the same.
  const later = await openPage(context, 'two-tabs');
  await commentsAre(later, both);
  assert.equal(await later.getByLabel('Your name').inputValue(), 'Ana');
});

test('a long history is shown from its end, and older pages on request', async () => {
  const expected = [];
  for (let i = 1; i <= 120; i += 1) {
    await post('/comment', { userid: 'ana', videoid: 'talkative', comment: `number ${i}` });
    expected.unshift(`number ${i}`);
  }
  // All are counted: what is counted only after the page has read the history comes by the stream, on top of a page of 50.
  await ask.settled(() => ask.get(`${server.origin}/comments/talkative`), ({ comments }) => comments[0]?.comment === expected[0]);
  const page = await openPage(await newContext(), 'talkative');
  await commentsAre(page, expected.slice(0, 50));
  await page.getByRole('button', { name: 'Older comments' }).click();
  await commentsAre(page, expected.slice(0, 100));
  await page.getByRole('button', { name: 'Older comments' }).click();
  await commentsAre(page, expected);
  await page.getByRole('button', { name: 'Older comments' }).waitFor({ state: 'hidden' });
});

test('a server that is lost is missed, and nothing is when it is back', async () => {
  const page = await openPage(await newContext(), 'outage');
  const expected = [];
  for (let i = 1; i <= 12; i += 1) {
    await say(page, `before ${i}`);
    expected.unshift(`before ${i}`);
    await commentsAre(page, expected);
  }
  away = true;
  await server.kill();
  await page.getByText('The connection to the server is lost.').first().waitFor();
  await page.getByText(/Next try in \d+ s\.|Trying (now|again)/).first().waitFor();
  await page.locator('#state-announcer', { hasText: /^The connection to the server is lost/ }).waitFor({ state: 'attached' });
  await say(page, 'while it was away');
  await page.getByText('waits for the server…').waitFor();
  // The banner stays for some seconds alone: it is awaited from the start on.
  await Promise.all([server.start(), page.getByText('The server is back.').first().waitFor()]);
  await pill(page, 'Live');
  away = false;
  await page.locator('#state-announcer', { hasText: /^The server is back/ }).waitFor({ state: 'attached' });
  expected.unshift('while it was away');
  await commentsAre(page, expected);
  await post('/comment', { userid: 'ben', videoid: 'outage', comment: 'and on it goes' });
  expected.unshift('and on it goes');
  await commentsAre(page, expected);
  await send(page, 'outage', 'Like');
  const later = await openPage(contexts[0], 'outage');
  await commentsAre(later, expected);
});

test('sample traffic can be sent again at once, for its viewers leave room for the page', async () => {
  const page = await openPage(await newContext());
  for (let run = 0; run < 3; run += 1) {
    await page.locator('#send-note').evaluate((note) => (note.textContent = ''));
    await page.locator('#sample-again').click();
    await page.locator('#send-note', { hasText: 'sample interactions and comments are in the log' }).waitFor();
  }
});

test('a phone needs no sideways scrolling, whatever it is shown', async () => {
  const long = 'w'.repeat(200);
  await post('/interact', { video_id: long, user_id: long, type: 'share' });
  await post('/comment', { userid: long, videoid: long, comment: long.repeat(3) });
  const page = await openPage(await newContext({ viewport: { width: 360, height: 740 }, hasTouch: true }), long);
  await commentsAre(page, [long.repeat(3)]);
  assert.deepEqual(await widerThanScreen(page), []);
  await page.locator('#ranking-list button').first().tap();
  await until(page, () => document.getElementById('video-panel').getBoundingClientRect().top < innerHeight / 2);
});

test('all of it works by keyboard alone', async () => {
  const page = await openPage(await newContext());
  const { keyboard } = page;
  await tabTo(page, '.skip');
  await tabTo(page, '#user-name');
  await keyboard.press('Control+A');
  await keyboard.type('Keya');
  await tabTo(page, 'input[name="board"]');
  await keyboard.press('ArrowRight');
  assert.equal(await page.locator('input[value="trending"]').isChecked(), true);
  await keyboard.press('ArrowLeft');
  await until(page, () => document.querySelectorAll('#ranking-list .row').length > 2);
  await tabTo(page, '#ranking-list button');
  // Rows may still move: what was sent before is counted. The one with the focus keeps it.
  const places = () => page.evaluate(() => [document.activeElement.dataset.video, document.querySelectorAll('#ranking-list .row')[1].querySelector('button').dataset.video]);
  let second;
  let isSecond = '';
  for (let tries = 0; second !== isSecond; tries += 1) {
    assert.ok(tries < 5, `the arrow leads to ${second}, not to ${isSecond}`);
    await keyboard.press('Home');
    await keyboard.press('ArrowDown');
    [second, isSecond] = await places();
  }
  await keyboard.press('Enter');
  assert.equal(await page.getByLabel('Video id').inputValue(), second);
  await tabTo(page, '#video-id');
  await keyboard.press('Control+A');
  await keyboard.type('by-keyboard');
  await keyboard.press('Enter');
  await tabTo(page, '[data-send="like"]');
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
  await keyboard.press('Space');
  await page.locator('#send-note', { hasText: 'Like for by-keyboard is in the log' }).waitFor();
  await tabTo(page, '#comment-text');
  await keyboard.type('no mouse was harmed');
  await keyboard.press('Enter');
  await commentsAre(page, ['no mouse was harmed']);
  assert.equal(await page.locator('#comment-list .author').textContent(), 'Keya');
});
