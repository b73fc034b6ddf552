/** The Operate tab in headless Chromium, against a liverank of its own: what it shows, what it asks the planner, and the demo. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { prepareServer } from './server.mjs';
import { WatchedPages, isOfNewVideo } from './watched.mjs';
import { Liverank } from '../../clients/js/dist/node.js';

const PATIENCE_MS = 45_000;

let server;
let streams = [];
const pages = new WatchedPages(PATIENCE_MS, isOfNewVideo);

before(async () => {
  server = await prepareServer();
  await server.start();
  await pages.launch();
  const liverank = new Liverank({ baseUrl: server.origin });
  streams = Array.from({ length: 12 }, (_, i) => liverank.comments(i < 8 ? 'cats' : 'dogs', { userid: `viewer-${i}` }));
  await liverank.interact({ video_id: 'cats', user_id: 'ann', type: 'like' });
});

after(async () => {
  for (const stream of streams) stream.close();
  await pages.close();
  await server?.remove();
});

afterEach(() => pages.endTest());

const open = (options = {}, query = '?tab=operate') =>
  pages.open(`${server.origin}/${query}`, { viewport: { width: 1280, height: 900 }, ...options });

const tile = (page, name, value) => page.locator(`[data-tile="${name}"] .value`, { hasText: value }).waitFor();
const rows = (page, list) => page.locator(`#${list} > li`);

test('it shows readers, viewers over time, videos by heat, lag and health, and keeps its address', async () => {
  const page = await open({}, '#cats');
  await page.getByRole('button', { name: 'Operate' }).click();
  await tile(page, 'viewers', /^1\d$/);
  assert.equal(await rows(page, 'operate-readers').count(), 3);
  const shares = await page.locator('#operate-readers .share').allTextContents();
  assert.ok(shares.every((text) => text.startsWith('fair share 4')), shares.join());
  const sums = await page.locator('#operate-readers .number').allTextContents();
  assert.ok(sums.every((text) => text.endsWith(' of 20K')), sums.join());
  await rows(page, 'operate-videos').filter({ hasText: 'cats' }).waitFor();
  assert.match(await rows(page, 'operate-videos').first().textContent(), /cats([89]|1\d).*reader-/, 'the most watched first');
  await page.locator('#operate-chart canvas').waitFor();
  assert.match(await page.locator('#operate-chart').getAttribute('aria-label'), /: 1\d now, at most 1\d, and room for 60,000/);
  await page.getByText('The managers plan').waitFor();
  await page.locator('#operate-health-sum', { hasText: 'all well' }).waitFor();
  assert.deepEqual(await page.locator('#operate-health .chip.bad').allTextContents(), []);
  await page.locator('#operate-lag', { hasText: 'Log, not counted yet0 records' }).waitFor();
  // What is refused shows, and by why.
  assert.equal((await fetch(`${server.origin}/interact`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' })).status, 400);
  await page.locator('#operate-refusals', { hasText: 'cannot be read1' }).waitFor();
  // The tab stands in the address beside the video, and outlives a reload.
  assert.equal(new URL(page.url()).search + new URL(page.url()).hash, '?tab=operate#cats');
  await page.reload();
  await tile(page, 'viewers', /^1\d$/);
  assert.equal(await page.locator('#watch').isVisible(), false);
  await rows(page, 'operate-videos').filter({ hasText: 'dogs' }).getByRole('link').click();
  await page.locator('#state-word', { hasText: 'Live' }).waitFor();
  assert.equal(await page.getByLabel('Video id').inputValue(), 'dogs');
});

test('the keyboard reaches everything, and nothing is wider than a phone', async () => {
  for (const scheme of ['light', 'dark']) {
    const page = await open({ viewport: { width: 360, height: 740 }, colorScheme: scheme });
    await tile(page, 'viewers', /^1\d$/);
    await page.locator('#operate-chart canvas').waitFor();
    const wide = await page.evaluate(() =>
      [document.documentElement, ...document.body.querySelectorAll('*')]
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5 && !one.closest('.sr-only, svg, .uplot'))
        .map((one) => `${one.tagName}.${one.className}`)
        .concat(document.documentElement.scrollWidth > innerWidth ? ['the page scrolls sideways'] : []),
    );
    assert.deepEqual(wide, []);
    const reached = new Set();
    for (let i = 0; i < 40; i += 1) {
      await page.keyboard.press('Tab');
      reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.tagName));
    }
    for (const id of ['tab-watch', 'tab-operate', 'demo-start', 'what-if-readers', 'what-if-viewers', 'what-if-video', 'A']) assert.ok(reached.has(id), `${id} in ${[...reached]}`);
  }
});

test('what if: the real planner answers, and what is wrong is said', async () => {
  const page = await open();
  await tile(page, 'readers', '3');
  const ask = page.getByRole('button', { name: 'Ask the planner' });
  const answer = page.locator('#what-if-answer');
  await ask.click();
  await answer.getByText('Change the readers, or let viewers come').waitFor();
  await page.getByLabel('Viewers come').fill('40000');
  await page.getByLabel('to the video').fill('cats');
  await ask.click();
  await answer.getByText(/^\d+ orders? within \d+ minutes?: [\d,]+ viewers would move/).waitFor();
  assert.equal(await answer.locator('.load').count(), 3);
  await answer.locator('summary', { hasText: 'Orders' }).waitFor();
  assert.match(await answer.locator('.reasons').first().textContent(), /split of cats/);
  await page.getByLabel('Viewers come').fill('');
  await page.getByRole('spinbutton', { name: 'Readers' }).fill('5');
  await ask.click();
  await answer.locator('.load', { hasText: 'new-reader-2' }).waitFor();
  assert.equal(await page.locator('#operate-readers > li').count(), 3, 'it was only a question');
});

test('the demo splits a video and empties a reader while one looks on, and leaves when it is told to', async () => {
  const page = await open();
  await page.getByRole('button', { name: 'Start the demo' }).click();
  await page.locator('#demo-text', { hasText: 'viewers come' }).waitFor();
  await page.locator('.badge-split').first().waitFor();
  const split = page.locator('.move-row', { has: page.locator('.badge-split') }).first();
  assert.match(await split.textContent(), /→.*viewer.*(share|hot video)/s);
  await page.locator('.decision', { hasText: 'Ordered' }).waitFor();
  await page.locator('#operate-drains', { hasText: 'is being emptied' }).waitFor();
  await page.locator('.badge-drain').first().waitFor();
  await page.getByRole('button', { name: 'Stop the demo' }).click();
  await page.getByRole('button', { name: 'Start the demo' }).waitFor();
  await tile(page, 'viewers', /^\d\d$/);
  await page.locator('#operate-drains > li').waitFor({ state: 'detached' });
});
