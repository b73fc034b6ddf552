/** Texts that are as long as German makes them: every label of the pages is made 1.4 times as long, and none is cut or leaves its place. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Liverank } from '../../clients/js/dist/node.js';
import { settled } from './ask.mjs';
import { prepareServer } from './server.mjs';
import { WatchedPages, isOfNewVideo } from './watched.mjs';

const PATIENCE_MS = 30_000;
const WIDTHS = [360, 768, 1280, 3840];
const DIALOGS = ['sign-in', 'moderate', 'bans', 'reports', 'held', 'audit'];
const LISTS = ['bans', 'reports', 'held', 'audit'];
const isOfMadeUpToken = (message) => /status of 401/.test(message.text());

let server;
let streams = [];
const pages = new WatchedPages(PATIENCE_MS, (message) => isOfNewVideo(message) || isOfMadeUpToken(message));

before(async () => {
  server = await prepareServer({ more: ['--moderation-open'] });
  await server.start();
  await pages.launch();
  const liverank = new Liverank({ baseUrl: server.origin });
  for (let nth = 0; nth < 12; nth += 1) await liverank.interact({ video_id: `video-${nth}`, owner_id: 'olga', user_id: 'ann', type: 'like' });
  streams = Array.from({ length: 6 }, (_, nth) => liverank.comments('video-1', { userid: `viewer-${nth}` }));
  const { id } = await liverank.postComment({ userid: 'ben', videoid: 'video-1', comment: 'Hello!' });
  await settled(() => liverank.history('video-1'), ({ comments }) => comments.length > 0);
  await liverank.pinComment('video-1', id);
  await liverank.ban({ userid: 'dan', kind: 'mute', reason: 'rude' });
});

after(async () => {
  for (const stream of streams) stream.close();
  await pages.close();
  await server?.remove();
});

afterEach(() => pages.endTest());

/** A page, of a moderator, who has all buttons, or of somebody without a token, whom a system without tokens shows its readers. */
async function open(width, path, isModerator = true) {
  const claims = Buffer.from(JSON.stringify({ sub: 'mo', roles: ['moderator', 'operator'] })).toString('base64url');
  const page = await pages.open(`${server.origin}/docs`, { viewport: { width, height: 900 }, reducedMotion: 'reduce' });
  if (isModerator) await page.evaluate((token) => sessionStorage.setItem('liverank.token', token), `e30.${claims}.x`);
  await page.goto(server.origin + path);
  return page;
}

/**
 * Makes every label 1.4 times as long, word by word, and returns what is cut then, or leaves its place. Runs in the page; what a
 * page shows anew is in time, for all of it is one step.
 */
function lengthen() {
  // A box whose layout the browser puts off until it is on the screen has the places of its former texts.
  const all = new CSSStyleSheet();
  all.replaceSync('* { content-visibility: visible !important; }');
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, all];
  /** What somebody wrote or named, and numbers: no labels. What is too long of these is cut on purpose, and whole in a title. */
  const DATA = 'code, pre, textarea, svg, .sr-only, .skip, .title, .owner, .name, .author, .text, #owner-name, #owner-open, .legend span, .reader b, .data, [data-figure], .uplot';
  const isSeen = (element) => element.checkVisibility() && element.getClientRects().length > 0;
  const longer = (text) => text.replace(/\p{L}{2,}/gu, (word) => word + 'n'.repeat(Math.ceil(word.length * 0.4)));
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const around = node.parentElement;
    if (/\p{L}{2,}/u.test(node.data) && !around.closest(DATA) && !['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(around.tagName)) texts.push(node);
  }
  for (const node of texts) node.data = longer(node.data);
  for (const field of document.querySelectorAll('[placeholder]')) field.placeholder = longer(field.placeholder);
  const said = (element) => `${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : ''}.${element.className} "${element.textContent.trim().slice(0, 40)}"`;
  const wrong = new Set();
  for (const node of texts) {
    const element = node.parentElement;
    if (!isSeen(element) || element.tagName === 'OPTION') continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const place = range.getBoundingClientRect();
    if (place.width === 0) continue;
    if (place.right > innerWidth + 1 || place.left < -1) wrong.add(`beyond the screen: ${said(element)}`);
    // A box that cuts what is in it, up to the part of the page that scrolls.
    for (let box = element; box && box !== document.body; box = box.parentElement) {
      const style = getComputedStyle(box);
      const { left, right, top, bottom } = box.getBoundingClientRect();
      const isButton = box.tagName === 'BUTTON';
      const cutsAcross = isButton || style.overflowX !== 'visible';
      if (cutsAcross && (place.right > right + 1 || place.left < left - 1)) wrong.add(`cut: ${said(element)} by ${said(box)}`);
      const cutsDown = isButton || style.overflowY === 'hidden' || style.overflowY === 'clip';
      if (cutsDown && (place.bottom > bottom + 1 || place.top < top - 1)) wrong.add(`cut below: ${said(element)} by ${said(box)}`);
      if (style.overflowY === 'auto' || style.overflowY === 'scroll') break;
    }
  }
  const pen = document.createElement('canvas').getContext('2d');
  for (const select of [...document.querySelectorAll('select')].filter(isSeen)) {
    const style = getComputedStyle(select);
    pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    const room = select.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const needed = pen.measureText(select.selectedOptions[0]?.text ?? '').width;
    if (needed > room + 1) wrong.add(`cut: ${said(select)}, ${Math.round(needed)} px in ${Math.round(room)}`);
  }
  // Labels that stand beside each other in a row do not lie upon each other.
  const leaves = texts.map((node) => node.parentElement).filter((one) => isSeen(one) && one.tagName !== 'OPTION' && !one.closest('.sr-only'));
  for (const one of new Set(leaves)) {
    const next = one.nextElementSibling;
    // What stands in a line of text has no box of its own.
    if (!next || !isSeen(next) || getComputedStyle(one).display === 'inline' || next.closest('svg') || getComputedStyle(next).position !== 'static' || getComputedStyle(one).position !== 'static') continue;
    const [a, b] = [one.getBoundingClientRect(), next.getBoundingClientRect()];
    const [across, down] = [Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)];
    if (across > 1 && down > 1) wrong.add(`upon each other: ${said(one)} and ${said(next)}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) wrong.add(`the page scrolls sideways: ${document.documentElement.scrollWidth} px`);
  return [...wrong];
}

const fits = async (page, where) => {
  const wrong = await page.evaluate(lengthen);
  if (process.env.LONG_TEXTS_PICTURES) await page.screenshot({ path: `${process.env.LONG_TEXTS_PICTURES}/${where.replace(/\W+/g, '-')}.png` });
  assert.deepEqual(wrong, [], where);
};

for (const width of WIDTHS) {
  test(`long texts fit in the Watch tab and its dialogs on ${width} px`, async () => {
    const page = await open(width, '/#video-1');
    await page.locator('#ranking-list .row').nth(5).waitFor();
    await page.locator('#pinned').waitFor();
    await page.locator('#comment-list .tools').first().waitFor();
    // What a lost connection says.
    await page.locator('#banner').evaluate((banner) => {
      banner.hidden = false;
      document.getElementById('banner-what').textContent = 'The connection to the server is lost.';
      document.getElementById('banner-when').textContent = 'Next try in 12 s.';
      document.getElementById('banner-sign-in').hidden = false;
    });
    await fits(page, `watch ${width}`);
    for (const name of DIALOGS) {
      await page.reload();
      await page.locator('#ranking-list .row').nth(5).waitFor();
      // Lists are opened as a moderator does, and have what they have; the others have nothing to read.
      if (LISTS.includes(name)) await page.locator(`#show-${name}`).click();
      else await page.locator(`#${name}-dialog`).evaluate((dialog) => dialog.showModal());
      if (LISTS.includes(name)) await page.locator(`#${name}-note`, { hasNotText: 'Loading' }).waitFor({ state: 'attached' });
      await fits(page, `${name} dialog ${width}`);
    }
  });

  test(`long texts fit in the Watch tab without a token on ${width} px`, async () => {
    const page = await open(width, '/#video-1', false);
    await page.locator('#ranking-list .row').nth(5).waitFor();
    await page.locator('#reader-list .reader').first().waitFor();
    await page.locator('#readers-history').waitFor();
    await fits(page, `readers ${width}`);
  });

  test(`long texts fit in the Operate tab on ${width} px`, async () => {
    const page = await open(width, '/?tab=operate');
    await page.locator('#operate .load').first().waitFor();
    await page.locator('#operate-chart canvas').waitFor();
    await fits(page, `operate ${width}`);
  });

  test(`long texts fit in the page of the API on ${width} px`, async () => {
    const page = await open(width, '/docs');
    await page.locator('article').first().waitFor();
    await fits(page, `docs ${width}`);
  });
}
