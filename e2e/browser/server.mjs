/** Starts `liverank up` on free ports, kills it, starts it again. */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const START_MS = 60_000;
const LISTENERS = ['gateway', 'websocket', 'comment', 'manager', 'statistics', 'admin'];
const READERS = 3;

export const binary = process.env.LIVERANK_BIN;

function listenFlags(ports, readers) {
  const listen = LISTENERS.flatMap((name) => [`--${name}-listen`, `127.0.0.1:${ports[name]}`]);
  return [...listen, '--reader-listen', readers.map((port) => `127.0.0.1:${port}`).join(',')];
}

/**
 * Blocks of ports, as `e2e/src/ports.rs` has them: who listens on the first port of a block has the others for as long as it
 * lives, also while its server is down. All are below the ports that the system hands to outgoing connections.
 */
const FIRST_PORT = 20_000;
const PORTS_A_BLOCK = 50;
const BLOCK_COUNT = 126;

/** What holds this process's blocks, and its ports that were not given yet. */
const holders = [];
const ours = [];

export async function freePorts(count) {
  const ports = [];
  while (ports.length < count) {
    if (ours.length === 0) ours.push(...(await holdBlock()));
    const port = ours.shift();
    const probe = await listen(port);
    if (!probe) continue;
    await new Promise((resolve) => probe.close(resolve));
    ports.push(port);
  }
  return ports;
}

/** Holds another block, and returns its ports. */
async function holdBlock() {
  const begin = process.pid % BLOCK_COUNT;
  for (let nth = 0; nth < BLOCK_COUNT; nth += 1) {
    const first = FIRST_PORT + ((begin + nth) % BLOCK_COUNT) * PORTS_A_BLOCK;
    const holder = await listen(first);
    if (!holder) continue;
    // It does not keep the process alive.
    holders.push(holder.unref());
    return Array.from({ length: PORTS_A_BLOCK - 1 }, (_, index) => first + 1 + index);
  }
  throw new Error('all blocks of ports are held');
}

/** A listener on a port of 127.0.0.1; `null` where there is one. */
function listen(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

/** Flags of `liverank up` that have everything listen on free ports, and where its front door is then. */
export async function freeListeners() {
  const free = await freePorts(LISTENERS.length + READERS);
  const ports = Object.fromEntries(LISTENERS.map((name, index) => [name, free[index]]));
  return { flags: listenFlags(ports, free.slice(LISTENERS.length)), origin: `http://127.0.0.1:${ports.gateway}`, manager: `http://127.0.0.1:${ports.manager}` };
}

/** A liverank of its own: `{origin, manager, start, kill, remove, token}`, not started yet. `more` are further flags of `liverank up`. */
export async function prepareServer({ more = [] } = {}) {
  if (!binary) throw new Error('LIVERANK_BIN must name the liverank binary');
  const dataDir = await mkdtemp(join(tmpdir(), 'liverank-browser-'));
  const { flags, origin, manager } = await freeListeners();
  let child = null;
  let output = '';

  const start = async () => {
    child = spawn(binary, ['up', '--data-dir', dataDir, ...flags, ...more], { stdio: ['ignore', 'pipe', 'pipe'] });
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
  return { origin, manager, start, kill, remove, token };
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
