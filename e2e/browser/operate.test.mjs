/** The Operate tab in headless Chromium, against a liverank of its own: what it shows, what it asks the planner, and the demo. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import * as ask from './ask.mjs';
import { prepareServer } from './server.mjs';
import { WatchedPages, isOfNewVideo } from './watched.mjs';
import { Liverank } from '../../clients/js/dist/node.js';

const PATIENCE_MS = 45_000;

/** The secret of all processes: a planner outside of them has a token made from it. */
const keyFolder = mkdtempSync(join(tmpdir(), 'liverank-key-'));
const keyFile = join(keyFolder, 'identity.key');
writeFileSync(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 });

let server;
let streams = [];
/** Questions to the planner are a few a second. */
const isOfManyQuestions = (message) => /status of 429/.test(message.text()) && message.location().url.endsWith('/operate/what-if');
const pages = new WatchedPages(PATIENCE_MS, (message) => isOfNewVideo(message) || isOfManyQuestions(message));

before(async () => {
  server = await prepareServer({ more: ['--identity-key-file', keyFile] });
  await server.start();
  await pages.launch();
  const liverank = new Liverank({ baseUrl: server.origin });
  const live = new Set();
  streams = Array.from({ length: 12 }, (_, i) =>
    liverank.comments(i < 8 ? 'cats' : 'dogs', { userid: `viewer-${i}`, onState: ({ state }) => (state === 'live' ? live.add(i) : live.delete(i)) }),
  );
  for (const deadline = Date.now() + PATIENCE_MS; live.size < streams.length; await new Promise((resolve) => setTimeout(resolve, 50))) {
    assert.ok(Date.now() < deadline, `${live.size} viewers`);
  }
  await liverank.interact({ video_id: 'cats', user_id: 'ann', type: 'like' });
});

after(async () => {
  for (const stream of streams) stream.close();
  await pages.close();
  await server?.remove();
  rmSync(keyFolder, { recursive: true });
});

afterEach(() => pages.endTest());

const open = (options = {}, query = '?tab=operate') =>
  pages.open(`${server.origin}/${query}`, { viewport: { width: 1280, height: 900 }, ...options });

const tile = (page, name, value) => page.locator(`[data-tile="${name}"] .value`, { hasText: value }).waitFor();
const rows = (page, list) => page.locator(`#${list} > li`);
/** Waits until what `selector` names are so many, each with this text. */
const allOf = async (page, selector, count, text) => {
  const texts = () => page.locator(selector).allTextContents();
  await ask.settled(texts, (all) => all.length === count && all.every((one) => text.test(one)), `${selector}: ${text}`);
};

test('it shows readers, viewers over time, videos by heat, lag and health, and keeps its address', async () => {
  const page = await open({}, '#cats');
  await page.getByRole('button', { name: 'Operate' }).click();
  // All twelve, and the page itself.
  await tile(page, 'viewers', /^1[2-9]$/);
  await allOf(page, '#operate-readers > li', 3, /./);
  await allOf(page, '#operate-readers .share', 3, /^fair share 4/);
  await allOf(page, '#operate-readers .number', 3, / of 20K$/);
  await rows(page, 'operate-videos').filter({ hasText: 'cats' }).filter({ hasText: /· 0(\.\d)?% of its capacity/ }).waitFor();
  await page.locator('#operate-videos > li:first-child', { hasText: /cats([89]|1\d).*reader-/ }).waitFor();
  await page.locator('#operate-chart canvas').waitFor();
  await page.waitForFunction(() => /: 1\d now, at most 1\d, and room for 60,000/.test(document.getElementById('operate-chart').ariaLabel));
  await page.getByText('The managers plan').waitFor();
  await page.locator('#operate-health-sum', { hasText: 'all well' }).waitFor();
  await page.waitForFunction(() => document.querySelectorAll('#operate-health .chip.bad').length === 0);
  await page.locator('#operate-lag', { hasText: 'Log, not counted yet0 records' }).waitFor();
  // What is refused shows, and by why.
  assert.equal((await ask.send('POST', server.origin, '/interact', {})).status, 400);
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
  const answer = page.locator('#what-if-answer');
  /** Asks until the planner was asked: a manager that plans something else at that moment refuses. */
  const askPlanner = async () => {
    for (const deadline = Date.now() + PATIENCE_MS; ; await ask.pause(500)) {
      await page.getByRole('button', { name: 'Ask the planner' }).click();
      await answer.filter({ hasNotText: 'The planner is asked…' }).waitFor();
      if (!(await answer.textContent()).startsWith('The planner was not asked')) return;
      assert.ok(Date.now() < deadline, await answer.textContent());
    }
  };
  await askPlanner();
  await answer.getByText('Change the readers, or let viewers come').waitFor();
  await page.getByLabel('Viewers come').fill('40000');
  await page.getByLabel('to the video').fill('cats');
  await askPlanner();
  await answer.getByText(/^\d+ orders? within \d+ minutes?: [\d,]+ viewers would move/).waitFor();
  assert.equal(await answer.locator('.load').count(), 3);
  // Bars are drawn to the capacity, not to the fullest reader.
  const bars = await answer.locator('.load').evaluateAll((all) => all.map((row) => [Number(/scaleX\((.+)\)/.exec(row.querySelector('.fill').style.transform)[1]), Number.parseFloat(row.querySelector('.state').textContent)]));
  for (const [drawn, said] of bars) assert.ok(Math.abs(drawn * 100 - said) < 1, JSON.stringify(bars));
  await answer.locator('summary', { hasText: 'Orders' }).waitFor();
  assert.match(await answer.locator('.reasons').first().textContent(), /split of cats/);
  await page.getByLabel('Viewers come').fill('');
  await page.getByRole('spinbutton', { name: 'Readers' }).fill('5');
  await askPlanner();
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
  await page.locator('#operate-drains', { hasText: /is being emptied: \d+ of \d+ viewers? left/ }).waitFor();
  await page.locator('#operate-drains .why', { hasText: 'the demo' }).waitFor();
  await page.locator('.badge-drain').first().waitFor();
  await page.getByRole('button', { name: 'Stop the demo' }).click();
  await page.getByRole('button', { name: 'Start the demo' }).waitFor();
  await tile(page, 'viewers', /^\d\d$/);
  await page.locator('#operate-drains > li').waitFor({ state: 'detached' });
});

/** Returns a token of a planner outside. */
const plannerToken = () =>
  execFileSync(process.env.LIVERANK_BIN, ['identity', 'token', '--identity-key-file', keyFile, '--for', 'operator'], { encoding: 'utf8' }).trim();

/** Sends an order to the manager, as a planner outside does. */
async function order(path, body, token = plannerToken()) {
  const lease = { uid: 'of-a-test', transitions: 1 };
  const response = await fetch(server.manager + path, { method: 'POST', headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` }, body: JSON.stringify({ holder: 'operator-7', lease, ...body }) });
  assert.equal(response.status, 200, await response.clone().text());
  return response.json();
}

test('what a planner outside decided is shown with its reasons, and when readers came and went', async (context) => {
  const { term } = await order('/term', {});
  const minute = 60_000;
  const decisions = [
    { id: 'Hold-3', at: Date.now() - 5_000, action: 'Hold', reason: '3 readers hold 12 viewers', bound_by: ['minReaders'], chosen: [], rejected: ['reader-2: it has viewers'] },
    { id: 'ScaleDown-2', at: Date.now() - 20_000, action: 'ScaleDown', reason: '4 readers were too many' },
    { id: 'ScaleUp-1', at: Date.now() - 30 * minute, action: 'ScaleUp', reason: '2 readers were too few' },
  ];
  await order('/term', { renew: term, decisions });
  // As a planner does: managers plan again where a term is not renewed for fifteen seconds.
  const token = plannerToken();
  const renewing = setInterval(() => order('/term', { renew: term }, token).catch(() => {}), 3_000);
  context.after(() => clearInterval(renewing));
  const page = await open();
  await page.locator('#operate-planner', { hasText: 'Planned outside of the managers (operator-7)' }).waitFor();
  const planner = page.locator('#operate-planner .decision');
  await planner.getByRole('heading', { name: /^Nothing is done, \d+ (s|min) ago$/ }).waitFor();
  assert.match(await planner.textContent(), /3 readers hold 12 viewers.*Bound by: 1.*minReaders.*Rejected: 1.*reader-2: it has viewers.*Before: 2.*Fewer readers, \d+ (s|min) ago: 4 readers were too many.*More readers, 3\d min ago/s);
  // One of the two is in the time that is drawn.
  await page.waitForFunction(() => document.getElementById('operate-chart').ariaLabel.endsWith('The number of readers was lowered once.'));
});
