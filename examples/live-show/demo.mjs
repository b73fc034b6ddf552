/**
 * A live show to try, in one command: `liverank up` that asks for tokens, on a data folder that is gone afterwards, and the page, as a
 * viewer, another one and a moderator. Flags behind it are handed to `liverank up`.
 *   LIVERANK_BIN   the program; where it is not given, `liverank` of the PATH, or the one that this checkout has built
 *   PORT           of the page; 5173
 */

import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createServer } from 'vite';

const START_MS = 60_000;
const PEOPLE = [
  ['ann', 'viewer,poster', 'a viewer'],
  ['ben', 'viewer,poster', 'another viewer'],
  ['mo', 'viewer,poster,moderator', 'a moderator'],
];

const built = (name) => fileURLToPath(new URL(`../../target/${name}/liverank`, import.meta.url));
const onPath = (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, 'liverank'));
const binary = process.env.LIVERANK_BIN ?? [...onPath, built('release'), built('ci'), built('debug')].find(existsSync);
if (!binary) {
  console.error('There is no program `liverank`: run `make build`, or say in LIVERANK_BIN where it is.');
  process.exit(1);
}

const flags = process.argv.slice(2);
const at = flags.indexOf('--gateway-listen');
const origin = `http://${at >= 0 ? flags[at + 1] : '127.0.0.1:8080'}`;
const data = await mkdtemp(join(tmpdir(), 'liverank-live-show-demo-'));
// Ctrl-C is for this process: it ends the other one, which takes a second call for "at once".
const up = spawn(binary, ['up', '--auth-dev', '--data-dir', data, '--log', 'warn', ...flags], { stdio: ['ignore', 'ignore', 'inherit'], detached: true });
let page = null;
let ending = false;

/** Ends all of it, once. */
async function end(code) {
  if (ending) return;
  ending = true;
  await page?.close();
  if (up.exitCode === null && up.signalCode === null) {
    up.kill('SIGTERM');
    await new Promise((resolve) => up.once('exit', resolve));
  }
  await rm(data, { recursive: true, force: true });
  process.exit(code);
}

up.once('error', (error) => {
  console.error(`${binary} could not be started: ${error.message}`);
  void end(1);
});
up.once('exit', () => void end(1));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => void end(0));

const token = (user, roles) => {
  const wanted = roles.split(',').flatMap((role) => ['--role', role]);
  return execFileSync(binary, ['token', 'user', '--user', user, ...wanted, '--data-dir', data], { encoding: 'utf8' }).trim();
};

/** Whether the system answers somebody who has a token. */
async function answers(bearer) {
  const response = await fetch(`${origin}/videos?limit=1`, { headers: { authorization: `Bearer ${bearer}` } }).catch(() => null);
  return response?.ok ?? false;
}

const deadline = Date.now() + START_MS;
while (!(await fetch(`${origin}/health`).then(({ ok }) => ok, () => false))) {
  if (Date.now() > deadline) {
    console.error(`${origin} does not answer.`);
    await end(1);
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
}
const links = PEOPLE.map(([user, roles, what]) => [what, token(user, roles)]);
while (!(await answers(links[0][1]))) {
  if (Date.now() > deadline) await end(1);
  await new Promise((resolve) => setTimeout(resolve, 100));
}

page = await createServer({ root: fileURLToPath(new URL('.', import.meta.url)), logLevel: 'warn' });
await page.listen();
const [address] = page.resolvedUrls.local;
console.log('\nOpen it in several windows:\n');
for (const [what, bearer] of links) console.log(`  as ${what}:\n  ${address}?${new URLSearchParams({ liverank: origin, token: bearer })}\n`);
console.log('Ctrl-C ends it, and nothing of it stays.');
