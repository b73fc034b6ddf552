/** The console where viewers have to show a token: it says so, takes one, and goes on; and the page of the API. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { answerOf, get, send } from './ask.mjs';
import { launch } from './chromium.mjs';
import { prepareServer } from './server.mjs';

/** For whatever another process has to do, on a busy machine, in ms. */
const PATIENCE_MS = 30_000;

let server;
let browser;
let contexts = [];

before(async () => {
  server = await prepareServer({ more: ['--auth-dev'] });
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

afterEach(() => Promise.all(contexts.splice(0).map((context) => context.close())));

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  contexts.push(context);
  const page = await context.newPage();
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(String(error)));
  await page.goto(`${server.origin}/#cats`);
  return page;
}

const banner = (page) => page.locator('#banner');
const pill = (page, word) => page.locator('#state-word', { hasText: word }).waitFor();

async function signIn(page, token) {
  await banner(page).getByRole('button', { name: 'Sign in' }).click();
  await page.getByLabel('Token', { exact: true }).fill(token);
  await page.locator('#sign-in-form').getByRole('button', { name: 'Sign in' }).click();
}

test('who has no token is asked to sign in, and not told that the server is lost', async () => {
  const page = await open();
  await banner(page).getByText('Sign in to watch.').waitFor();
  await pill(page, 'Refused');
  assert.equal(await page.getByText('connection to the server is lost').count(), 0);
  await page.locator('#state-announcer', { hasText: /^Sign in to watch/ }).waitFor({ state: 'attached' });
  // Nothing is tried again by itself.
  const requests = [];
  page.on('request', (request) => requests.push(new URL(request.url()).pathname));
  await page.waitForTimeout(3_000);
  assert.deepEqual(requests.filter((path) => path === '/connect' || path.startsWith('/ws/')), []);
});

test('a token is pasted, and everything works as its user until the sign-out', async () => {
  const page = await open();
  await signIn(page, `Bearer ${server.token('ann')}\n`);
  await pill(page, 'Live');
  assert.equal(await page.getByLabel('Your name').inputValue(), 'ann');
  assert.equal(await page.getByLabel('Your name').isEditable(), false);
  await page.getByRole('button', { name: 'Like', exact: true }).click();
  await page.locator('#send-note', { hasText: 'Like for cats is in the log' }).waitFor();
  await page.getByLabel('Your comment').fill('signed in');
  await page.getByRole('button', { name: 'Post' }).click();
  await page.locator('#comment-list .comment:not(.pending)', { hasText: 'signed in' }).waitFor();
  assert.equal(await page.locator('#comment-list .author').first().textContent(), 'ann');
  // It outlives a reload of the tab, and no other tab has it.
  await page.reload();
  await pill(page, 'Live');
  const other = await page.context().newPage();
  await other.goto(server.origin);
  await banner(other).getByText('Sign in to watch.').waitFor();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await banner(page).getByText('Sign in to watch.').waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.deepEqual(page.errors, []);
});

test('an author deletes its own comment, a moderator anybody\u2019s, and it goes from every page', async () => {
  const pages = [];
  for (const [user, role] of [['ann', 'poster'], ['ben', 'poster'], ['mo', 'moderator']]) {
    const page = await open();
    await signIn(page, server.token(user, '--role', role));
    await pill(page, 'Live');
    pages.push(page);
  }
  const [ann, ben, mo] = pages;
  const row = (page, text) => page.locator('#comment-list .comment:not(.pending)', { hasText: text });
  const button = (page, text) => row(page, text).getByRole('button', { name: /^Delete/ });
  for (const text of ['first of ann', 'second of ann']) {
    await ann.getByLabel('Your comment').fill(text);
    await ann.getByRole('button', { name: 'Post' }).click();
    for (const page of pages) await row(page, text).waitFor();
  }
  assert.equal(await button(ben, 'first of ann').count(), 0);
  await button(ann, 'first of ann').click();
  await button(mo, 'second of ann').click();
  for (const page of pages) {
    for (const text of ['first of ann', 'second of ann']) await row(page, text).waitFor({ state: 'detached' });
    await page.reload();
    await pill(page, 'Live');
    assert.equal(await row(page, 'of ann').count(), 0);
    assert.deepEqual(page.errors, []);
  }
});

/** Posts a comment past the pages. */
function post(token, userid, comment) {
  return send('POST', server.origin, '/comment', { userid, videoid: 'cats', comment }, { authorization: `Bearer ${token}` });
}

/** Whether it is what became of a comment: one that was answered 503 is posted again by the page. */
const isAnswerToComment = (response) => new URL(response.url()).pathname === '/comment' && response.status() !== 503;

/** Posts until the answer is this one: a mute, and its end, are in force within a second, and later on a busy machine. */
async function isAnswered(user, status) {
  const token = server.token(user);
  for (const deadline = Date.now() + PATIENCE_MS; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const answer = await post(token, user, 'am I heard?');
    if (answer.status === status) return;
    assert.ok(Date.now() < deadline, `${answer.status}, not ${status}`);
  }
}

/** Posts as ann, and then as ben, until only ben's comment is in the history, or until both are. */
async function isInShadow(wanted) {
  const [ann, ben] = [server.token('ann'), server.token('ben')];
  const texts = async () => (await get(`${server.origin}/comments/cats`)).comments.map(({ comment }) => comment);
  const deadline = Date.now() + PATIENCE_MS;
  for (let nth = 0; ; nth += 1) {
    const [dim, light] = [`dim ${wanted} ${nth}`, `light ${wanted} ${nth}`];
    assert.equal((await post(ann, 'ann', dim)).status, 201);
    assert.equal((await post(ben, 'ben', light)).status, 201);
    let shown;
    // Comments on a video are counted in the order in which they were posted.
    do {
      assert.ok(Date.now() < deadline, `in the shadow: not ${wanted}`);
      shown = await texts();
    } while (!shown.includes(light));
    if (!shown.includes(dim) === wanted) return;
  }
}

test('a reply says what it replies to, and repeats nothing of a comment that was removed', async () => {
  const pages = [];
  for (const user of ['ann', 'ben']) {
    const page = await open();
    await signIn(page, server.token(user));
    await pill(page, 'Live');
    pages.push(page);
  }
  const [ann, ben] = pages;
  const row = (page, text) => page.locator('#comment-list .comment:not(.pending)').filter({ has: page.locator('.text', { hasText: text }) });
  const say = async (page, text) => {
    await page.getByLabel('Your comment').fill(text);
    await page.getByRole('button', { name: 'Post' }).click();
  };
  await say(ann, 'which of these cats is yours?');
  await row(ben, 'which of these').getByRole('button', { name: 'Reply to ann' }).click();
  await ben.getByText('You reply to ann.').waitFor();
  // The box has the focus.
  await ben.keyboard.type('the grey one');
  await ben.keyboard.press('Enter');
  for (const page of pages) {
    await row(page, 'the grey one').locator('.reply', { hasText: 'Reply to ann: which of these cats is yours?' }).waitFor();
  }
  assert.equal(await ben.locator('#reply-note').isVisible(), false);
  await ann.reload();
  await row(ann, 'the grey one').locator('.reply', { hasText: 'Reply to ann: which of these' }).waitFor();
  await row(ann, 'which of these').getByRole('button', { name: /^Delete/ }).click();
  for (const page of pages) {
    await row(page, 'the grey one').locator('.reply', { hasText: 'Reply to an earlier comment' }).waitFor();
    assert.equal(await page.getByText('which of these').count(), 0);
    assert.deepEqual(page.errors, []);
  }
});

test('a moderator mutes and bans from a comment, sees who is, and lifts it', async () => {
  const ann = await open();
  await signIn(ann, server.token('ann'));
  const mo = await open();
  await signIn(mo, server.token('mo', '--role', 'moderator'));
  for (const page of [ann, mo]) await pill(page, 'Live');
  const say = async (text) => {
    await ann.getByLabel('Your comment').fill(text);
    await ann.getByRole('button', { name: 'Post' }).click();
  };
  await say('something rude');
  await mo.locator('.comment', { hasText: 'something rude' }).getByRole('button', { name: 'Ban or mute ann' }).click();
  await mo.getByLabel('Why').fill('rude');
  await mo.locator('#moderate-do').click();
  await mo.getByText('ann is muted on this video.').waitFor();
  await isAnswered('ann', 403);
  await say('something ruder');
  await ann.locator('.comment.failed', { hasText: 'something ruder' }).waitFor();
  assert.equal(await ann.getByRole('button', { name: 'Banned and muted' }).isVisible(), false);
  await mo.getByRole('button', { name: 'Banned and muted' }).click();
  const line = mo.locator('#bans-list li', { hasText: 'ann' });
  await line.waitFor();
  assert.match(await line.textContent(), /Mute on cats, until .*, by mo: rude/);
  await line.getByRole('button', { name: /^Lift/ }).click();
  await mo.getByText('Nobody is banned or muted.').waitFor();
  await mo.getByRole('button', { name: 'Close' }).click();
  await isAnswered('ann', 201);
  await say('something kind');
  await mo.locator('.comment', { hasText: 'something kind' }).waitFor();
  for (const page of [ann, mo]) assert.deepEqual(page.errors, []);
});

test('a moderator sees what viewers reported, and decides', async () => {
  const ann = await open();
  await signIn(ann, server.token('ann'));
  const mo = await open();
  await signIn(mo, server.token('mo', '--role', 'moderator'));
  for (const page of [ann, mo]) await pill(page, 'Live');
  assert.equal(await ann.getByRole('button', { name: 'Reported' }).isVisible(), false);
  const ids = {};
  for (const text of ['buy this', 'only strange']) {
    const posted = ann.waitForResponse(isAnswerToComment);
    await ann.getByLabel('Your comment').fill(text);
    await ann.getByRole('button', { name: 'Post' }).click();
    ids[text] = (await (await posted).json()).comment.id;
    await mo.locator('#comment-list .comment:not(.pending)', { hasText: text }).waitFor();
    const headers = { authorization: `Bearer ${server.token('ben')}` };
    const body = { userid: 'ben', reason: 'spam', text: `about ${text}` };
    const answer = await send('POST', server.origin, `/comments/cats/${ids[text]}/reports`, body, headers);
    assert.equal(answer.status, 202);
  }
  const line = (text) => mo.locator('#reports-list li', { hasText: text });
  // The queue is read when it is opened: the log's way into it takes a moment.
  const deadline = Date.now() + PATIENCE_MS;
  for (let tries = 0; (await line('spam by ben').count()) < 2; tries += 1) {
    assert.ok(Date.now() < deadline, 'both are in the queue');
    if (tries > 0) await mo.getByRole('button', { name: 'Close' }).click();
    await mo.getByRole('button', { name: 'Reported' }).click();
    await mo.locator('#reports-note', { hasNotText: 'Loading' }).waitFor({ state: 'attached' });
  }
  assert.match(await line('buy this').textContent(), /ann on cats, reported by 1.*spam by ben: about buy this/);
  await line('only strange').getByRole('button', { name: /^Dismiss/ }).click();
  await line('only strange').waitFor({ state: 'detached' });
  await line('buy this').getByRole('button', { name: /^Delete/ }).click();
  await mo.getByText('No comment waits for a decision.').waitFor();
  await mo.getByRole('button', { name: 'Close' }).click();
  for (const page of [ann, mo]) {
    await page.locator('#comment-list .comment', { hasText: 'buy this' }).waitFor({ state: 'detached' });
    assert.equal(await page.locator('#comment-list .comment', { hasText: 'only strange' }).count(), 1);
    assert.deepEqual(page.errors, []);
  }
});

/** Two who are signed in: a poster and a moderator, with a comment of the poster's that both see. */
async function posterAndModerator(text) {
  const ann = await open();
  await signIn(ann, server.token('ann'));
  const mo = await open();
  await signIn(mo, server.token('mo', '--role', 'moderator'));
  for (const page of [ann, mo]) await pill(page, 'Live');
  await ann.getByLabel('Your comment').fill(text);
  await ann.getByRole('button', { name: 'Post' }).click();
  for (const page of [ann, mo]) await page.locator('#comment-list .comment:not(.pending)', { hasText: text }).waitFor();
  return { ann, mo };
}

/** Opens a dialog of lists again until a line has this text: the log's way into it takes a moment. */
async function listed(page, button, list, text) {
  const line = page.locator(`#${list}-list li`, { hasText: text }).first();
  for (const deadline = Date.now() + PATIENCE_MS; ; ) {
    await page.getByRole('button', { name: button, exact: true }).click();
    await page.locator(`#${list}-note`, { hasNotText: 'Loading' }).waitFor({ state: 'attached' });
    if ((await line.count()) > 0) return line;
    assert.ok(Date.now() < deadline, `in vain: ${text} in ${button}`);
    await page.getByRole('button', { name: 'Close' }).click();
  }
}

test('a moderator pins a comment, everybody sees it above the others, and it goes when it is deleted or unpinned', async () => {
  const { ann, mo } = await posterAndModerator('worth a pin');
  const pinned = (page) => page.getByRole('note', { name: 'Pinned comment' });
  const row = (text) => mo.locator('#comment-list .comment:not(.pending)', { hasText: text });
  assert.equal(await ann.getByRole('button', { name: /^Pin/ }).count(), 0);
  await row('worth a pin').getByRole('button', { name: 'Pin the comment by ann' }).click();
  for (const page of [ann, mo]) await pinned(page).getByText('worth a pin').waitFor();
  await ann.reload();
  await pinned(ann).getByText('worth a pin').waitFor();
  assert.equal(await pinned(ann).getByRole('button').count(), 0);
  await pinned(mo).getByRole('button', { name: 'Unpin' }).click();
  for (const page of [ann, mo]) await pinned(page).waitFor({ state: 'hidden' });
  await row('worth a pin').getByRole('button', { name: 'Pin the comment by ann' }).click();
  for (const page of [ann, mo]) await pinned(page).waitFor();
  await row('worth a pin').getByRole('button', { name: /^Delete/ }).click();
  for (const page of [ann, mo]) {
    await pinned(page).waitFor({ state: 'hidden' });
    assert.deepEqual(page.errors, []);
  }
});

test('a comment that waits is said to wait, a moderator releases one and rejects another', async () => {
  const moderator = { authorization: `Bearer ${server.token('mo', '--role', 'moderator')}` };
  const rules = { videoid: 'cats', rules: { words: [{ action: 'hold', words: ['perhaps'] }] } };
  const set = await send('POST', server.origin, '/moderation/rules', rules, moderator);
  assert.equal(set.status, 202);
  const { ann, mo } = await posterAndModerator('no doubt');
  assert.equal(await ann.getByRole('button', { name: 'Held' }).isVisible(), false);
  // In force within a second: until then a comment is shown at once.
  const waits = async (text) => {
    await ann.getByLabel('Your comment').fill(text);
    const answered = ann.waitForResponse(isAnswerToComment);
    await ann.getByRole('button', { name: 'Post' }).click();
    return (await (await answered).json()).held === true;
  };
  for (const deadline = Date.now() + PATIENCE_MS; !(await waits('perhaps this')); ) assert.ok(Date.now() < deadline);
  await ann.locator('.comment.pending', { hasText: 'waits for a moderator' }).waitFor();
  assert.equal(await waits('perhaps that'), true);
  await (await listed(mo, 'Held', 'held', 'perhaps that')).getByRole('button', { name: 'Reject the comment of ann' }).click();
  const released = mo.locator('#held-list li', { hasText: 'perhaps this' });
  assert.match(await released.textContent(), /ann on cats.*perhaps this.*waits for: words in it/);
  await released.getByRole('button', { name: 'Release the comment of ann' }).click();
  await mo.getByText('No comment waits.').waitFor();
  await mo.getByRole('button', { name: 'Close' }).click();
  for (const page of [ann, mo]) {
    await page.locator('#comment-list .comment:not(.pending)', { hasText: 'perhaps this' }).first().waitFor();
    assert.equal(await page.locator('#comment-list .comment:not(.pending)', { hasText: 'perhaps that' }).count(), 0);
    assert.deepEqual(page.errors, []);
  }
  const removed = await answerOf(`${server.origin}/moderation/rules?videoid=cats`, { method: 'DELETE', headers: moderator });
  assert.equal(removed.status, 202);
});

test('a shadow ban is chosen, seen and lifted, and the audit log has who did what, and why', async () => {
  const { ann, mo } = await posterAndModerator('before the shadow');
  await mo.locator('.comment', { hasText: 'before the shadow' }).getByRole('button', { name: 'Ban or mute ann' }).click();
  await mo.locator('#moderate-kind').selectOption('shadow');
  await mo.getByText('are shown to ann alone').waitFor();
  await mo.getByLabel('Why').fill('tests patience');
  await mo.locator('#moderate-do', { hasText: 'Shadow ban' }).click();
  await mo.getByText('ann is shadow-banned on this video.').waitFor();
  const ban = await listed(mo, 'Banned and muted', 'bans', 'ann');
  assert.match(await ban.textContent(), /Shadow ban on cats, until .*, by mo: tests patience/);
  // Only its author sees what is said from then on.
  const say = async (text) => {
    await ann.getByLabel('Your comment').fill(text);
    await ann.getByRole('button', { name: 'Post' }).click();
    await ann.locator('#comment-list .comment:not(.pending)', { hasText: text }).waitFor();
  };
  await isInShadow(true);
  await say('in the shadow');
  await ban.getByRole('button', { name: /^Lift the shadow ban/ }).click();
  await mo.getByText('Nobody is banned or muted.').waitFor();
  await mo.getByRole('button', { name: 'Close' }).click();
  await isInShadow(false);
  await say('out of it');
  await mo.locator('.comment', { hasText: 'out of it' }).waitFor();
  assert.equal(await mo.locator('.comment', { hasText: 'in the shadow' }).count(), 0);
  const lifted = await listed(mo, 'What was done', 'audit', 'mo (moderator) lifted the shadow ban of ann on cats');
  assert.equal(await lifted.isVisible(), true);
  const lines = await mo.locator('#audit-list li').allTextContents();
  const begun = lines.findIndex((line) => /^mo \(moderator\) shadow-banned ann on cats until .*: tests patience$/.test(line));
  assert.ok(begun > 0, lines.join('\n'));
  assert.equal(await ann.getByRole('button', { name: 'What was done' }).isVisible(), false);
  for (const page of [ann, mo]) assert.deepEqual(page.errors, []);
});

test('how the system is, is shown to those with the role for it, and others are told what is missing', async () => {
  const page = await open();
  await page.getByRole('button', { name: 'Operate' }).click();
  await page.getByText('Sign in to see how the system is.').waitFor();
  for (const [role, words] of [['moderator', 'it needs the role operator or service'], ['operator', null]]) {
    await page.locator('#operate-note').getByRole('button', { name: 'Sign in' }).click();
    await page.getByLabel('Token', { exact: true }).fill(server.token('olga', '--role', role));
    await page.locator('#sign-in-form').getByRole('button', { name: 'Sign in' }).click();
    if (words) await page.locator('#operate-note', { hasText: words }).waitFor();
  }
  await page.locator('[data-tile="readers"] .value', { hasText: '3' }).waitFor();
  await page.locator('#operate-note').waitFor({ state: 'hidden' });
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('Sign in to see how the system is.').waitFor();
  await page.locator('#operate-body').waitFor({ state: 'hidden' });
  assert.deepEqual(page.errors, []);
});

test('what is no token, or no good one, is said', async () => {
  const page = await open();
  await signIn(page, 'not a token');
  await page.getByText('This is no token').waitFor();
  await page.getByRole('button', { name: 'Cancel' }).click();
  const good = server.token('ann');
  await signIn(page, `${good.slice(0, -6)}AAAAAA`);
  await banner(page).getByText('Your token was refused.').waitFor();
  await signIn(page, good);
  await pill(page, 'Live');
  await banner(page).waitFor({ state: 'hidden' });
});

test('the dialog and the banner fit a phone', async () => {
  const page = await open({ viewport: { width: 360, height: 740 } });
  await banner(page).getByRole('button', { name: 'Sign in' }).click();
  const wide = await page.evaluate(() => [...document.querySelectorAll('dialog, dialog *, .banner *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5).length);
  assert.equal(wide, 0);
});

test('the page of the API shows every public operation and stream, and finds them', async () => {
  const page = await open();
  await page.goto(`${server.origin}/docs`);
  await page.locator('article#interact').waitFor();
  const document = await (await fetch(`${server.origin}/openapi.json`)).json();
  const operations = Object.values(document.paths).flatMap((item) => ['get', 'put', 'post', 'delete'].flatMap((method) => item[method]?.operationId ?? []));
  const shown = await page.locator('article').evaluateAll((articles) => articles.map((article) => article.id));
  assert.deepEqual(shown.filter((id) => !id.startsWith('channel-')).toSorted(), operations.toSorted());
  const streams = Object.keys((await (await fetch(`${server.origin}/asyncapi.json`)).json()).channels);
  assert.ok(streams.length >= 5, 'streams, and topics for other systems');
  assert.equal(shown.filter((id) => id.startsWith('channel-')).length, streams.length);
  assert.match(await page.locator('article#interact').textContent(), /user_id.*Id of the user who interacted/);
  await page.getByPlaceholder('Filter').fill('comment');
  await page.locator('article#interact').waitFor({ state: 'hidden' });
  await page.locator('article#postComment').waitFor();
  await page.setViewportSize({ width: 360, height: 740 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  assert.deepEqual(page.errors, []);
});
