/** Starts `liverank up` on free ports, kills it, starts it again. */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const START_MS = 30_000;
const LISTENERS = ['gateway', 'websocket', 'comment', 'manager', 'statistics', 'admin'];
const READERS = 3;

export const binary = process.env.LIVERANK_BIN;

/** The arguments of `liverank up` for these ports. */
function upArguments(dataDir, ports, readers, more) {
  const listen = LISTENERS.flatMap((name) => [`--${name}-listen`, `127.0.0.1:${ports[name]}`]);
  return ['up', '--data-dir', dataDir, ...listen, '--reader-listen', readers.map((port) => `127.0.0.1:${port}`).join(','), ...more];
}

/**
 * Ports that nobody listens on, below those that the system hands to outgoing connections: one of these could take a port
 * while the server is down.
 */
async function freePorts(count) {
  const ports = new Set();
  for (let tries = 0; ports.size < count; tries += 1) {
    if (tries > 1_000) throw new Error('no free ports');
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** A liverank of its own: `{origin, start, kill, remove, token}`, not started yet. `more` are further flags of `liverank up`. */
export async function prepareServer({ more = [] } = {}) {
  if (!binary) throw new Error('LIVERANK_BIN must name the liverank binary');
  const dataDir = await mkdtemp(join(tmpdir(), 'liverank-browser-'));
  const free = await freePorts(LISTENERS.length + READERS);
  const ports = Object.fromEntries(LISTENERS.map((name, index) => [name, free[index]]));
  const origin = `http://127.0.0.1:${ports.gateway}`;
  let child = null;
  let output = '';

  const start = async () => {
    child = spawn(binary, upArguments(dataDir, ports, free.slice(LISTENERS.length), more), { stdio: ['ignore', 'pipe', 'pipe'] });
    output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output = (output + text).slice(-8_000)));
    const deadline = Date.now() + START_MS;
    while (!(await answers(origin))) {
      if (child.exitCode !== null) throw new Error(`liverank ended with ${child.exitCode}:\n${output}`);
      if (Date.now() > deadline) throw new Error(`liverank did not start in time:\n${output}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  /** As kill -9 does: nothing is flushed, nobody is told. */
  const kill = async () => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  };
  const remove = async () => {
    await kill();
    await rm(dataDir, { recursive: true, force: true });
  };
  /** A token of a system that was started with --auth-dev. */
  const token = (user, ...flags) =>
    execFileSync(binary, ['token', 'user', '--user', user, '--data-dir', dataDir, ...flags], { encoding: 'utf8' }).trim();
  return { origin, start, kill, remove, token };
}

/** Whether the front door answers a question that needs what stands behind it. */
async function answers(origin) {
  try {
    const response = await fetch(`${origin}/videos?limit=1`, { signal: AbortSignal.timeout(2_000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}
