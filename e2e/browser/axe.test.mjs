/** The pages, as somebody with a screen reader or weak eyes meets them: axe finds nothing, in both schemes, on a phone and on a desk. */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { launch } from './chromium.mjs';
import { prepareServer } from './server.mjs';

const PATIENCE_MS = 30_000;
/** What a page shows once it has something to be judged by. */
const PAGES = [
  ['the ranking, a video and its comments', '/#cats', '#comment-list .comment'],
  ['Operate', '/?tab=operate', '#operate .load'],
  ['the API', '/docs', 'article'],
];
const SCREENS = [
  { viewport: { width: 360, height: 740 }, colorScheme: 'light' },
  { viewport: { width: 360, height: 740 }, colorScheme: 'dark' },
  { viewport: { width: 1280, height: 800 }, colorScheme: 'light' },
  { viewport: { width: 1280, height: 800 }, colorScheme: 'dark' },
];

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let server;
let browser;

before(async () => {
  server = await prepareServer({ more: ['--moderation-open'] });
  await server.start();
  browser = await launch();
  for (const video of ['cats', 'dogs']) await post('/interact', { video_id: video, user_id: 'ann', owner_id: 'olga', type: 'like' });
  await post('/comment', { userid: 'ben', videoid: 'cats', comment: 'Hello!' });
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

async function post(path, body) {
  const response = await fetch(server.origin + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  assert.ok(response.ok, `${path} answered ${response.status}`);
}

for (const [name, path, sign] of PAGES) {
  test(`axe finds nothing in ${name}`, async () => {
    for (const screen of SCREENS) {
      // Colours that are still on their way have another contrast than those that they come to.
      const context = await browser.newContext({ ...screen, reducedMotion: 'reduce', bypassCSP: true });
      context.setDefaultTimeout(PATIENCE_MS);
      const page = await context.newPage();
      await page.goto(server.origin + path);
      await page.locator(sign).first().waitFor();
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
      const found = violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`);
      assert.deepEqual(found, [], `${screen.viewport.width} px, ${screen.colorScheme}`);
      await context.close();
    }
  });
}
