/** Declared boards in the console page and in the client, against a liverank of its own. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Liverank } from '../../clients/js/dist/node.js';
import { get, send } from './ask.mjs';
import { prepareServer } from './server.mjs';
import { WatchedPages } from './watched.mjs';

const PATIENCE_MS = 30_000;
/** A day of the tests' begins at midnight: of two zones, one in which that is an hour away at least. */
const TIME_ZONE = ['Europe/Berlin', 'Asia/Tokyo'].find((timeZone) => {
  const hour = Number(new Intl.DateTimeFormat('en', { timeZone, hour: 'numeric', hourCycle: 'h23' }).format());
  return hour >= 1 && hour < 23;
});
const BOARDS = [
  { name: 'most-liked', weights: { like: 1 }, minimum: 2 },
  { name: 'hot-pets', order: 'trending', category: 'pets' },
  { name: 'today', window: 'day', timeZone: TIME_ZONE, keep: 2 },
];
const PHONE = { viewport: { width: 360, height: 740 } };

let server;
const pages = new WatchedPages(PATIENCE_MS);

before(async () => {
  server = await prepareServer({ more: ['--boards', JSON.stringify(BOARDS), '--moderation-open'] });
  await server.start();
  await pages.launch();
  for (const [video, likes] of [['cats', 3], ['dogs', 2], ['birds', 1]]) {
    for (let nth = 0; nth < likes; nth += 1) await ask('POST', '/interact', { video_id: video, user_id: `user-${nth}`, owner_id: 'olga', type: 'like' });
  }
});

after(async () => {
  await pages.close();
  await server?.remove();
});

afterEach(() => pages.endTest());

async function ask(method, path, body) {
  const response = await send(method, server.origin, path, body);
  assert.ok(response.ok, `${path} answered ${response.status}`);
}

async function openPage(options = {}, path = '/') {
  const page = await pages.open(server.origin + path, options);
  await page.locator('#state-word', { hasText: 'Live' }).waitFor();
  await page.getByRole('combobox', { name: 'Board' }).waitFor();
  return page;
}

const until = (page, what, argument) => page.waitForFunction(what, argument, { timeout: PATIENCE_MS });
/** Waits until the ranking shows these videos, best first. */
const shows = (page, expected) =>
  until(page, (wanted) => [...document.querySelectorAll('#ranking-list .title')].map((title) => title.textContent).join() === wanted, expected.join());
const said = (page, text) => page.locator('#board-note', { hasText: text }).waitFor();
const choose = (page, name) => page.getByRole('combobox', { name: 'Board' }).selectOption(name);

const widerThanScreen = (page) =>
  page.evaluate(() =>
    [document.documentElement, ...document.body.querySelectorAll('*')]
      .filter((element) => element.getBoundingClientRect().right > innerWidth + 0.5 && !element.closest('.sr-only, svg'))
      .map((element) => `${element.tagName}.${element.className}`)
      .concat(document.documentElement.scrollWidth > innerWidth ? ['the page scrolls sideways'] : []),
  );

test('every declared board can be chosen, and is followed', async () => {
  const page = await openPage();
  const names = await page.locator('#board-select option').allTextContents();
  assert.deepEqual(names, ['All time', 'Trending', 'most-liked', 'hot-pets', 'today']);
  await shows(page, ['cats', 'dogs', 'birds']);
  assert.ok(await page.locator('#board-note').isHidden());
  await choose(page, 'most-liked');
  await shows(page, ['cats', 'dogs']);
  await said(page, 'Points, from 2 on.');
  assert.ok(await page.locator('#window-select').isHidden());
  await choose(page, 'hot-pets');
  await page.getByText('No video is on this board.').waitFor();
  await said(page, 'Points that halve every 6 h, category pets.');
  await ask('PUT', '/videos/dogs', { title: 'Dogs', category: 'pets' });
  await shows(page, ['dogs']);
  // What is shown stands in the address, and the way back to all leads through the same choice.
  await page.reload();
  await shows(page, ['dogs']);
  await choose(page, 'global');
  await shows(page, ['cats', 'dogs', 'birds']);
  assert.equal(new URL(page.url()).search, '');
});

test('a window that has ended is chosen, said to be final, and stands in the address', async () => {
  const page = await openPage({}, '/?board=today');
  await shows(page, ['cats', 'dogs', 'birds']);
  await said(page, `Points of a day (${TIME_ZONE})`);
  const windows = await page.locator('#window-select option').allTextContents();
  assert.equal(windows.length, 3);
  assert.match(windows[0], /^\d{4}-\d{2}-\d{2} · running$/);
  const [ended] = windows[1].split(' ');
  await page.getByRole('combobox', { name: 'Window' }).selectOption(ended);
  await page.getByText('No video is on this board.').waitFor();
  // What ended long before anything was counted is final once all is counted.
  await said(page, 'the final result');
  await page.locator('#window-select option', { hasText: `${ended} · final` }).waitFor({ state: 'attached' });
  assert.equal(new URL(page.url()).searchParams.get('window'), ended);
  await page.locator('#state-word', { hasText: 'Live' }).waitFor();
  await page.reload();
  await said(page, 'the final result');
  assert.equal(await page.getByRole('combobox', { name: 'Window' }).inputValue(), ended);
  await page.getByRole('combobox', { name: 'Window' }).selectOption('');
  await shows(page, ['cats', 'dogs', 'birds']);
  assert.equal(new URL(page.url()).search, '?board=today');
});

test('a board or a window that is not there leads to one that is', async () => {
  const page = await openPage({}, '/?board=none');
  await shows(page, ['cats', 'dogs', 'birds']);
  assert.equal(new URL(page.url()).search, '');
  const other = await openPage({}, '/?board=today&window=2020-01-01');
  await shows(other, ['cats', 'dogs', 'birds']);
  assert.equal(new URL(other.url()).search, '?board=today');
});

test('boards and windows are chosen by keyboard, and fit a phone in both schemes', async () => {
  for (const colorScheme of ['light', 'dark']) {
    for (const [name, size] of [['desktop', {}], ['phone', PHONE]]) {
      const page = await openPage({ ...size, colorScheme }, '/?board=today');
      await shows(page, ['cats', 'dogs', 'birds']);
      assert.deepEqual(await widerThanScreen(page), []);
      if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/boards-${name}-${colorScheme}.png` });
      await page.getByRole('combobox', { name: 'Window' }).focus();
      await page.keyboard.press('ArrowDown');
      await said(page, 'the final result');
      await page.keyboard.press('Shift+Tab');
      await page.keyboard.press('Home');
      await until(page, () => document.getElementById('window-select').hidden);
      await shows(page, ['cats', 'dogs', 'birds']);
    }
  }
});

test('the client reads boards and their windows, and lists with metadata follow what is said', async () => {
  const liverank = new Liverank({ baseUrl: server.origin });
  const { boards } = await liverank.boards();
  const today = boards.find(({ name }) => name === 'today');
  assert.deepEqual([today.windows.unit, today.windows.ended.length], ['day', 2]);
  const page = await liverank.videos({ board: 'today', window: today.windows.running.name, fields: ['metadata'] });
  assert.equal(page.window.state, 'running');
  await ask('PUT', '/videos/cats', { title: 'Cats' });
  const seen = [];
  const around = [];
  const streams = [
    liverank.ranking({ limit: 10, fields: ['metadata'], onList: (videos) => seen.push(videos) }),
    liverank.rankingAround('cats', { board: 'most-liked', limit: 1, fields: ['metadata'], onPart: (part) => around.push(part) }),
  ];
  const title = (videos) => videos?.find(({ video_id }) => video_id === 'cats')?.metadata?.title;
  const become = async (wanted) => {
    const deadline = Date.now() + PATIENCE_MS;
    while (title(seen.at(-1)) !== wanted || title(around.at(-1)?.videos) !== wanted) {
      assert.ok(Date.now() < deadline, `${title(seen.at(-1))}, ${title(around.at(-1)?.videos)}, not ${wanted}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await become('Cats');
  await ask('PUT', '/videos/cats', { title: 'All the cats' });
  await become('All the cats');
  assert.equal(seen.at(-1).find(({ video_id }) => video_id === 'birds').metadata, null);
  for (const stream of streams) stream.close();
});
