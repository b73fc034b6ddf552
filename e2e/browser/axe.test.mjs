/** The pages, as somebody with a screen reader or weak eyes meets them: axe finds nothing, in both schemes, on a phone and on a desk. */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import * as ask from './ask.mjs';
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
  const { comment } = await post('/comment', { userid: 'ben', videoid: 'cats', comment: 'Hello!' });
  // What moderators have shows something: a pin, a comment that waits, one that was reported, a ban, and that all this was done.
  await ask.settled(() => ask.get(`${server.origin}/comments/cats`), ({ comments }) => comments.length > 0);
  await post('/moderation/pins', { videoid: 'cats', id: comment.id });
  await post(`/comments/cats/${comment.id}/reports`, { userid: 'cleo', reason: 'spam', text: 'sells dogs' });
  await post('/moderation/bans', { userid: 'dan', reason: 'rude' });
  await post('/moderation/rules', { videoid: 'dogs', rules: { hold_all: true } });
  await ask.settled(() => post('/comment', { userid: 'ben', videoid: 'dogs', comment: 'Woof!' }), ({ held }) => held);
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

const post = (path, body) => ask.post(server.origin, path, body);

/** A page on a screen, with axe in it. */
async function open(screen, path, prepare = async () => {}) {
  // Colours that are still on their way have another contrast than those that they come to.
  const context = await browser.newContext({ ...screen, reducedMotion: 'reduce', bypassCSP: true });
  context.setDefaultTimeout(PATIENCE_MS);
  await prepare(context);
  const page = await context.newPage();
  await page.goto(server.origin + path);
  return page;
}

async function findsNothing(page, where) {
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`);
  assert.deepEqual(found, [], where);
}

for (const [name, path, sign] of PAGES) {
  test(`axe finds nothing in ${name}`, async () => {
    for (const screen of SCREENS) {
      const page = await open(screen, path);
      await page.locator(sign).first().waitFor();
      await page.evaluate(axe);
      await findsNothing(page, `${screen.viewport.width} px, ${screen.colorScheme}`);
      await page.context().close();
    }
  });
}

test('axe finds nothing in what moderators have', async () => {
  // The page goes by what a token says; this system asks for none, and takes everybody for a moderator.
  const claims = Buffer.from(JSON.stringify({ sub: 'mo', roles: ['moderator'] })).toString('base64url');
  const signIn = (context) => context.addInitScript((token) => sessionStorage.setItem('liverank.token', token), `e30.${claims}.x`);
  for (const screen of SCREENS) {
    const page = await open(screen, '/#cats', signIn);
    await page.getByRole('note', { name: 'Pinned comment' }).getByRole('button', { name: 'Unpin' }).waitFor();
    await page.evaluate(axe);
    for (const list of ['held', 'reports', 'bans', 'audit']) {
      const dialog = page.locator(`#${list}-dialog`);
      // It is read when it is opened: the log's way into it takes a moment.
      for (const deadline = Date.now() + PATIENCE_MS; (await dialog.locator('li').count()) === 0; ) {
        assert.ok(Date.now() < deadline, `nothing in ${list}`);
        if (await dialog.isVisible()) await dialog.getByRole('button', { name: 'Close' }).click();
        await page.locator(`#show-${list}`).click();
        await page.locator(`#${list}-note`, { hasNotText: 'Loading' }).waitFor({ state: 'attached' });
      }
      await findsNothing(page, `${list}, ${screen.viewport.width} px, ${screen.colorScheme}`);
      const wide = await dialog.evaluate((element) => [element, ...element.querySelectorAll('*')].filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5).length);
      assert.equal(wide, 0, `${list} fits ${screen.viewport.width} px`);
      await dialog.getByRole('button', { name: 'Close' }).click();
    }
    await page.locator('#comment-list').getByRole('button', { name: 'Ban or mute ben' }).first().click();
    await findsNothing(page, `ban, ${screen.viewport.width} px, ${screen.colorScheme}`);
    await page.context().close();
  }
});
