/** Long lists in the console page: 10,000 videos, a busy video's comments, moderators' lists. The rows in the page stay few. */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, afterEach, before, test } from 'node:test';
import * as ask from './ask.mjs';
import { prepareServer } from './server.mjs';
import { WatchedPages, isOfNewVideo } from './watched.mjs';

const PATIENCE_MS = 60_000;
const VIDEOS = 10_000;
const A_BATCH = 1_000;
const COMMENTS = 700;
const BANS = 120;
/** Rows of 60 px on a screen of 800 px, ten beyond each edge, the one with the focus and the open one. */
const MOST_ROWS = 40;
const SCREENS = [['a desk', {}], ['a phone', { viewport: { width: 360, height: 740 }, hasTouch: true }]];

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** The page goes by what a token says; this system takes everybody for a moderator, and refuses a token that it did not make. */
const isOfMadeUpToken = (message) => /status of 401/.test(message.text());
let server;
const pages = new WatchedPages(PATIENCE_MS, (message) => isOfNewVideo(message) || isOfMadeUpToken(message));

before(async () => {
  server = await prepareServer({ more: ['--moderation-open'] });
  await server.start();
  await pages.launch();
  const names = Array.from({ length: VIDEOS }, (_, nth) => `video-${String(nth).padStart(5, '0')}`);
  for (let from = 0; from < VIDEOS; from += A_BATCH) {
    await interact(names.slice(from, from + A_BATCH).map((video_id, nth) => ({ video_id, owner_id: `owner-${(from + nth) % 100}`, user_id: 'ann', type: 'view' })));
  }
  await ask.settled(() => ask.get(`${server.origin}/videos?limit=1`), ({ total }) => total === VIDEOS, 'all are counted');
});

after(async () => {
  await pages.close();
  await server?.remove();
});

afterEach(() => pages.endTest());

const post = (path, body) => ask.post(server.origin, path, body);
const interact = (events) => post('/interactions', events);
const until = (page, what, argument) => page.waitForFunction(what, argument, { timeout: PATIENCE_MS });
const rows = (page) => page.locator('#ranking-list .row').count();
const focused = (page) => page.evaluate(() => document.activeElement.dataset.video);

/** A page that shows all videos. */
async function openDeep(screen) {
  const page = await pages.open(`${server.origin}/`, { ...screen, reducedMotion: 'reduce', bypassCSP: true });
  if (screen.viewport) await page.getByRole('button', { name: 'Show the top 50' }).click();
  await page.getByRole('button', { name: 'Show up to 10,000' }).click();
  await until(page, (videos) => document.querySelector('#ranking-list .row')?.ariaSetSize === String(videos), VIDEOS);
  return page;
}

for (const [where, screen] of SCREENS) {
  test(`10,000 videos are few rows in the page of ${where}, and the keyboard reaches all of them`, async () => {
    const page = await openDeep(screen);
    assert.ok((await rows(page)) <= MOST_ROWS, `${await rows(page)} rows`);
    const { keyboard } = page;
    await page.locator('#ranking-list button[tabindex="0"]').focus();
    await keyboard.press('End');
    const last = await page.locator('#ranking-list .row').last();
    assert.deepEqual([await last.getAttribute('aria-posinset'), await last.locator('.rank').textContent()], [String(VIDEOS), String(VIDEOS)]);
    assert.equal(await focused(page), await last.locator('button').getAttribute('data-video'));
    assert.ok((await rows(page)) <= MOST_ROWS, `${await rows(page)} rows`);
    await keyboard.press('ArrowUp');
    await keyboard.press('PageUp');
    assert.equal(await page.evaluate(() => document.activeElement.closest('li').ariaPosInSet), String(VIDEOS - 11));
    assert.ok(await page.evaluate(() => {
      const { top, bottom } = document.activeElement.getBoundingClientRect();
      return top >= 0 && bottom <= innerHeight;
    }), 'what has the focus is seen');
    // Rows stand in the page as they stand in the list, so that whoever reads line by line meets them in that order.
    const places = await page.locator('#ranking-list .row').evaluateAll((all) => all.map((row) => Number(row.ariaPosInSet)));
    assert.deepEqual(places, places.toSorted((a, b) => a - b));
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`), []);
  });
}

test('the focus stays on its row while the list is scrolled away from it, and while the row moves', async () => {
  const page = await openDeep({});
  await page.locator('#ranking-list button[tabindex="0"]').focus();
  await page.keyboard.press('Home');
  await page.keyboard.press('ArrowDown');
  const second = await focused(page);
  await page.locator('.ranking .scroll').evaluate((box) => box.scrollTo(0, box.scrollHeight / 2));
  await until(page, () => [...document.querySelectorAll('#ranking-list .row')].some((row) => row.ariaPosInSet > 4_000));
  assert.equal(await focused(page), second);
  assert.ok((await rows(page)) <= MOST_ROWS, `${await rows(page)} rows`);
  await interact([{ video_id: second, user_id: 'ann', type: 'share' }]);
  await until(page, (video) => document.querySelector(`#ranking-list button[data-video="${video}"] .rank`)?.textContent === '1', second);
  assert.equal(await focused(page), second);
});

test('what is sought is found among all of them', async () => {
  const page = await openDeep({});
  const first = await page.locator('#ranking-list .title').first().textContent();
  await page.getByRole('searchbox', { name: 'Find a video or an owner' }).fill('owner-42');
  await until(page, () => document.querySelector('#ranking-list .row').ariaSetSize === '100');
  assert.ok((await rows(page)) <= MOST_ROWS, `${await rows(page)} rows`);
  await page.getByRole('searchbox', { name: 'Find a video or an owner' }).fill(first);
  await until(page, () => document.querySelectorAll('#ranking-list .row').length === 1);
});

test('frames are drawn while 10,000 videos change', async (context) => {
  const page = await openDeep({});
  const measured = page.evaluate(longestFrames, 4_000);
  // 400 videos rise in each list, ten lists a second.
  for (let round = 0; round < 30; round += 1) {
    const some = Array.from({ length: 400 }, (_, nth) => `video-${String((round * 311 + nth * 25) % VIDEOS).padStart(5, '0')}`);
    await interact(some.map((video_id) => ({ video_id, user_id: 'ben', type: 'like' })));
  }
  const { frames, longest, over } = await measured;
  // How long a frame takes is the machine's; that there are frames, and few rows, is ours.
  context.diagnostic(`${frames} frames, the longest ${longest} ms, ${over} over 50 ms`);
  assert.ok(frames > 10 && (await rows(page)) <= MOST_ROWS);
});

/** Watches frames for `forMs`, and until there are some on a busy machine, and scrolls the list meanwhile; runs in the page. */
function longestFrames(forMs) {
  return new Promise((resolve) => {
    const box = document.querySelector('.ranking .scroll');
    const began = performance.now();
    const gaps = [];
    let last = began;
    const frame = (now) => {
      gaps.push(now - last);
      last = now;
      box.scrollTo(0, ((now - began) / forMs) * 60_000);
      if (now - began < forMs || gaps.length <= 10) requestAnimationFrame(frame);
      else resolve({ frames: gaps.length, longest: Math.round(Math.max(...gaps)), over: gaps.filter((gap) => gap > 50).length });
    };
    requestAnimationFrame(frame);
  });
}

test("a busy video's comments stay few in the page, and what is not seen of them is not drawn", async () => {
  const page = await pages.open(`${server.origin}/#busy`, { reducedMotion: 'reduce' });
  await page.locator('#state-word', { hasText: 'Live' }).waitFor();
  for (let nth = 0; nth < COMMENTS; nth += 20) {
    await Promise.all(Array.from({ length: 20 }, (_, more) => post('/comment', { userid: 'ann', videoid: 'busy', comment: `number ${nth + more}` })));
  }
  await page.locator('#comment-count', { hasText: String(COMMENTS) }).waitFor();
  const list = page.locator('#comment-list .comment');
  assert.equal(await list.count(), 500);
  assert.equal(await list.last().evaluate((one) => getComputedStyle(one).contentVisibility), 'auto');
  // The browser's own search and the keyboard reach what is not drawn.
  assert.ok(await page.evaluate(() => globalThis.find(document.querySelector('#comment-list .comment:last-child .text').textContent)));
});

test("moderators' lists grow by a page, and what is not seen of them is not drawn", async () => {
  for (let nth = 0; nth < BANS; nth += 1) await post('/moderation/bans', { userid: `user-${nth}`, reason: 'rude' });
  // The page reads each part of the list once: the log's way into it takes a moment.
  await ask.settled(() => ask.get(`${server.origin}/moderation/bans?limit=${BANS + 1}`), ({ bans }) => bans.length === BANS);
  const claims = Buffer.from(JSON.stringify({ sub: 'mo', roles: ['moderator'] })).toString('base64url');
  const page = await pages.open(`${server.origin}/`, { reducedMotion: 'reduce' });
  await page.evaluate((token) => sessionStorage.setItem('liverank.token', token), `e30.${claims}.x`);
  await page.reload();
  await page.locator('#show-bans').click();
  const lines = page.locator('#bans-list li');
  for (const expected of [50, 100, BANS]) {
    await until(page, (count) => document.querySelectorAll('#bans-list li').length === count, expected);
    if (expected < BANS) await page.getByRole('dialog').getByRole('button', { name: 'More' }).click();
  }
  assert.equal(await lines.last().evaluate((one) => getComputedStyle(one).contentVisibility), 'auto');
  assert.ok(await page.locator('#bans-more').isHidden());
});
