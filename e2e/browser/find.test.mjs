/** Finding videos and owners in the console page, ranks over time, and the choice of colours. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { send } from './ask.mjs';
import { prepareServer } from './server.mjs';
import { WatchedPages, isOfNewVideo } from './watched.mjs';

const PATIENCE_MS = 30_000;
const PHONE = { viewport: { width: 360, height: 740 } };
const VIDEOS = [['cats', 'olga', 3], ['dogs', 'olga', 2], ['birds', 'paul', 1]];

let server;
const pages = new WatchedPages(PATIENCE_MS, isOfNewVideo);

before(async () => {
  server = await prepareServer();
  await server.start();
  await pages.launch();
  for (const [video, owner, likes] of VIDEOS) {
    for (let nth = 0; nth < likes; nth += 1) await like(video, `user-${nth}`, owner);
  }
});

after(async () => {
  await pages.close();
  await server?.remove();
});

afterEach(() => pages.endTest());

async function like(video, user, owner) {
  const response = await send('POST', server.origin, '/interact', { video_id: video, user_id: user, owner_id: owner, type: 'like' });
  assert.equal(response.status, 202);
}

async function openPage(options = {}, path = '/') {
  const page = await pages.open(server.origin + path, options);
  await page.locator('#state-word', { hasText: 'Live' }).waitFor();
  return page;
}

/** Waits until the ranking shows these videos, each with its rank. */
const shows = (page, ...expected) =>
  page.waitForFunction(
    (wanted) => [...document.querySelectorAll('#ranking-list .row')].map((row) => `${row.querySelector('.rank').textContent} ${row.querySelector('.title').textContent}`).join() === wanted,
    expected.join(),
    { timeout: PATIENCE_MS },
  );
const field = (page) => page.getByRole('searchbox', { name: 'Find a video or an owner' });

test('a slash leads to the field, which finds videos and owners at the ranks that they have', async () => {
  const page = await openPage();
  await shows(page, '1 cats', '2 dogs', '3 birds');
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'find');
  await page.keyboard.type('paul');
  await shows(page, '3 birds');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('#video-id').value === 'birds');
  // A slash in a text is a slash.
  await page.locator('#comment-text').fill('');
  await page.locator('#comment-text').press('/');
  assert.equal(await page.locator('#comment-text').inputValue(), '/');
  await field(page).press('Escape');
  await shows(page, '1 cats', '2 dogs', '3 birds');
});

test('what is not in the list is said, and Enter opens it all the same', async () => {
  const page = await openPage(PHONE);
  await shows(page, '1 cats', '2 dogs', '3 birds');
  await field(page).fill('whales');
  await page.getByText('Nothing of that name among the first 50. Enter opens the video whales.').waitFor();
  await field(page).press('Enter');
  await page.waitForFunction(() => document.querySelector('#video-id').value === 'whales');
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
});

test("an owner's videos are shown, followed, and stand in the address", async () => {
  const page = await openPage({}, '/#dogs');
  await page.getByRole('button', { name: 'olga', exact: true }).click();
  await page.getByText('Videos of olga').waitFor();
  await shows(page, '1 cats', '2 dogs');
  assert.equal(new URL(page.url()).searchParams.get('owner'), 'olga');
  await like('fish', 'user-1', 'olga');
  await shows(page, '1 cats', '2 dogs', '3 fish');
  await page.reload();
  await shows(page, '1 cats', '2 dogs', '3 fish');
  await page.getByRole('button', { name: 'All videos' }).click();
  await page.waitForFunction(() => document.querySelectorAll('#ranking-list .row').length === 4);
  assert.equal(new URL(page.url()).search, '');
});

test('a video that rises has its ranks drawn', async () => {
  const page = await openPage({}, '/#dogs');
  await page.waitForFunction(() => document.querySelectorAll('#ranking-list .row').length >= 3);
  const line = page.locator('#rank-history');
  assert.ok(await line.isHidden(), 'a line that never moved');
  for (let nth = 3; nth < 6; nth += 1) await like('dogs', `user-${nth}`, 'olga');
  await line.waitFor();
  await page.locator('#rank-history .said', { hasText: '1 now, best 1, worst 2' }).waitFor();
  assert.match(await page.locator('#rank-history svg').getAttribute('aria-label'), /^Rank over the last minutes: 1 now/);
  await page.waitForFunction(() => /^M.*L.*L/.test(document.querySelector('.rank-line').getAttribute('d')));
});

test('colours are chosen, kept, and follow the system until then', async () => {
  const page = await openPage({ colorScheme: 'dark' });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await page.emulateMedia({ colorScheme: 'light' });
  await page.waitForFunction(() => document.documentElement.dataset.theme === 'light');
  const light = await ground();
  assert.notEqual(dark, light);
  await page.getByRole('combobox', { name: 'Colours' }).selectOption('Dark');
  assert.equal(await ground(), dark);
  await page.reload();
  assert.equal(await ground(), dark);
  await page.goto(`${server.origin}/docs`);
  assert.equal(await ground(), dark);
  await page.goto(server.origin);
  await page.getByRole('combobox', { name: 'Colours' }).selectOption('System colours');
  assert.equal(await ground(), light);
});
