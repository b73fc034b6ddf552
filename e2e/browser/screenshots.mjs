/** Takes the pictures in docs/images, of a system with some traffic: `npm run screenshots`, or with names behind it for some of them. */

import { fileURLToPath } from 'node:url';
import { Liverank } from '../../clients/js/dist/node.js';
import { launch } from './chromium.mjs';
import { serveLiveShow } from './live-show.mjs';
import { prepareServer } from './server.mjs';

const FOLDER = process.env.SCREENSHOTS ?? fileURLToPath(new URL('../../docs/images', import.meta.url));
const only = process.argv.slice(2);
const server = await prepareServer();
await server.start();
const browser = await launch();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function shot(name, url, { settle = 1_500, before = async () => {}, ...options } = {}) {
  if (only.length > 0 && !only.includes(name)) return;
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  await page.goto(url, { timeout: 90_000 });
  await page.getByText(/^(Live|Interactions)$/i).filter({ visible: true }).first().waitFor({ timeout: 60_000 });
  await pause(settle);
  await before(page);
  await page.screenshot({ path: `${FOLDER}/${name}.png` });
  await context.close();
}

// Viewers who stay, so that readers have something to hold.
const liverank = new Liverank({ baseUrl: server.origin });
const videos = ['northern-lights', 'street-food-tour', 'tiny-robots', 'harbour-at-dawn', 'vinyl-restoration', 'endgame-studies'];
const streams = Array.from({ length: 48 }, (_, i) => liverank.comments(videos[Math.floor((i * i) / 400) % 6], { userid: `viewer-${i}` }));

/** Something to see: likes and shares, most on the first videos, and a conversation. */
async function fill(liverank) {
  const owners = ['freya', 'minh', 'ada', 'joana', 'otis', 'vera'];
  const types = ['view', 'like', 'share'];
  for (let i = 0; i < 90; i += 1) {
    const at = Math.floor((i * i) / 1_400) % 6;
    await liverank.interact({ video_id: videos[at], owner_id: owners[at], user_id: `viewer-${i % 48}`, type: types[i % 3] });
  }
  const talk = [
    ['ines', 'First time here, and I stay.'], ['tomas', 'Greetings from Porto!'], ['yuki', 'That light…'], ['ines', 'Where was this filmed?'],
    ['leila', 'Near Tromsø, says the description.'], ['sam', 'How long did you wait for it?'], ['bruno', 'Three nights, and two thermos flasks.'],
    ['yuki', 'Worth it!'], ['tomas', 'Look at the left edge now.'], ['leila', 'It moves like a curtain.'], ['sam', 'Watched it twice already.'],
  ];
  for (const [userid, comment] of talk) await liverank.postComment({ userid, videoid: videos[0], comment });
}

/** The sample app, of a system that asks for tokens: as a viewer, and as a moderator who points at a comment. */
async function liveShow() {
  const system = await prepareServer({ more: ['--auth-dev'] });
  await system.start();
  const app = await serveLiveShow();
  // A service vouches for its users.
  const studio = new Liverank({ baseUrl: system.origin, token: system.token('studio', '--role', 'service') });
  await fill(studio);
  // The log's way into the history takes a moment.
  let worthIt;
  while (!worthIt) worthIt = (await studio.history(videos[0])).comments.find(({ comment }) => comment.startsWith('Three nights'));
  await studio.pinComment(videos[0], worthIt.id);
  const address = (user, role) => `${app.origin}/?${new URLSearchParams({ liverank: system.origin, token: system.token(user, '--role', role) })}`;
  const point = (page) => page.locator('.chat li', { hasText: 'Watched it twice' }).hover();
  await shot('live-show', address('mo', 'moderator'), { viewport: { width: 1280, height: 800 }, before: point });
  await shot('live-show-phone', address('ann', 'poster'), { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, before: (page) => page.locator('.chat').scrollIntoViewIfNeeded() });
  await app.close();
  await system.remove();
}

await shot('console-empty', `${server.origin}/`, { settle: 500 });
await fill(liverank);
await shot('console', `${server.origin}/#northern-lights`, { settle: 20_000 });
await shot('console-dark', `${server.origin}/#northern-lights`, { colorScheme: 'dark', settle: 4_500 });
await shot('console-phone', `${server.origin}/#northern-lights`, { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, settle: 3_000 });
await shot('docs', `${server.origin}/docs`);
await shot('docs-phone', `${server.origin}/docs#interact`, { viewport: { width: 360, height: 740 } });
if (only.length === 0 || only.some((name) => name.startsWith('live-show'))) await liveShow();

// While a reader is emptied.
await fetch(`${server.origin}/operate/demo`, { method: 'POST' });
await pause(only.length === 0 || only.some((name) => name.startsWith('operate')) ? 37_000 : 0);
await shot('operate', `${server.origin}/?tab=operate`, { settle: 3_000 });
await shot('operate-dark', `${server.origin}/?tab=operate`, { colorScheme: 'dark', settle: 3_000 });
await shot('operate-phone', `${server.origin}/?tab=operate`, { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, settle: 3_000 });

for (const stream of streams) stream.close();
await browser.close();
await server.remove();
