/** Takes the pictures in docs/images, of a system with sample traffic: `npm run screenshots`. */

import { fileURLToPath } from 'node:url';
import { Liverank } from '../../clients/js/dist/node.js';
import { launch } from './chromium.mjs';
import { serveLiveShow } from './live-show.mjs';
import { prepareServer } from './server.mjs';

const FOLDER = process.env.SCREENSHOTS ?? fileURLToPath(new URL('../../docs/images', import.meta.url));
const server = await prepareServer();
await server.start();
const app = await serveLiveShow();
const browser = await launch();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function shot(name, url, { settle = 1_500, before = async () => {}, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  await page.goto(url);
  await before(page);
  await pause(settle);
  await page.screenshot({ path: `${FOLDER}/${name}.png` });
  await context.close();
}

/** The page's own sample traffic, three times. */
async function traffic(page) {
  await page.locator('#sample, #sample-again').filter({ visible: true }).first().click();
  for (let i = 0; i < 2; i += 1) {
    await page.locator('#send-note', { hasText: 'are in the log' }).waitFor();
    await page.locator('#sample-again').click();
    await pause(4_500);
  }
}

// Viewers who stay, so that readers have something to hold.
const liverank = new Liverank({ baseUrl: server.origin });
const videos = ['northern-lights', 'street-food-tour', 'tiny-robots', 'harbour-at-dawn', 'vinyl-restoration', 'endgame-studies'];
const streams = Array.from({ length: 48 }, (_, i) => liverank.comments(videos[Math.floor((i * i) / 400) % 6], { userid: `viewer-${i}` }));

await shot('console-empty', `${server.origin}/`, { settle: 500 });
await shot('console', `${server.origin}/#northern-lights`, { before: traffic, settle: 25_000 });
await shot('console-dark', `${server.origin}/#northern-lights`, { colorScheme: 'dark', settle: 4_500 });
await shot('console-phone', `${server.origin}/#northern-lights`, { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, settle: 3_000 });
await shot('docs', `${server.origin}/docs`);
await shot('docs-phone', `${server.origin}/docs#interact`, { viewport: { width: 360, height: 740 } });
await shot('live-show', `${app.origin}/?${new URLSearchParams({ liverank: server.origin, user: 'ann' })}`, { viewport: { width: 1280, height: 800 } });
await shot('live-show-phone', `${app.origin}/?${new URLSearchParams({ liverank: server.origin, user: 'ann' })}`, { viewport: { width: 360, height: 740 } });

for (const stream of streams) stream.close();
await browser.close();
await app.close();
await server.remove();
