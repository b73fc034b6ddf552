// A browser's rule: an EventSource never comes back after an answer that is neither a stream with status 200 nor a redirect.
// Here it watches at readers directly, each of which takes one viewer.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { EventSource } from 'eventsource';
import { until } from './system.mjs';

/**
 * Ports that nobody listens on, below those that the system hands to outgoing connections, which would take one in between, and
 * apart from those of the other tests, which may run beside this one.
 */
async function freePorts(count) {
  const ports = [];
  for (let port = 29_500 + Math.floor(Math.random() * 500); ports.length < count; port += 1) {
    const server = net.createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(() => true, () => false);
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    ports.push(port);
  }
  return ports;
}

/** A system of two readers with room for one viewer each. */
async function start(directory) {
  const names = ['gateway', 'websocket', 'comment', 'manager', 'statistics', 'admin'];
  const ports = await freePorts(names.length + 2);
  const at = (port) => `127.0.0.1:${port}`;
  const listen = names.flatMap((name, nth) => [`--${name}-listen`, at(ports[nth])]);
  const readers = ports.slice(names.length).map(at);
  const settings = Object.entries(process.env).filter(([name]) => !name.startsWith('LIVERANK_'));
  const child = spawn(
    process.env.LIVERANK_BIN,
    ['up', '--data-dir', directory, ...listen, '--reader-listen', readers.join(',')],
    // The gateway's own viewer would take one of the two seats.
    { env: { ...Object.fromEntries(settings), LIVERANK_CAPACITY: '1', LIVERANK_CANARY_SECONDS: '0' }, stdio: 'ignore' },
  );
  return { child, front: `http://${at(ports[0])}` };
}

/** Opens a stream; tells at which readers it was greeted and how it is. */
function watch(url, userid) {
  const source = new EventSource(`${url}/connect?userid=${userid}&videoid=full`);
  const stream = { source, greeted: [], failed: 0 };
  source.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === 'connected') stream.greeted.push(message.instance);
  };
  source.onerror = () => { stream.failed += 1; };
  return stream;
}

test('an EventSource at a full reader finds the other one, and waits where both are full', { timeout: 120_000 }, async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'liverank-full-'));
  const { child, front } = await start(directory);
  const open = [];
  try {
    const register = () => fetch(`${front}/register`, {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ videoid: 'full' }),
    }).then((answer) => answer.ok && answer.json(), () => false);
    const { readerUrl } = await until('a reader of the video', register, 30);
    const first = watch(readerUrl, 'ana');
    open.push(first);
    await until('the first viewer', () => first.greeted.length === 1);

    const second = watch(readerUrl, 'ben');
    open.push(second);
    await until('the second viewer', () => second.greeted.length === 1, 30);
    assert.notEqual(second.greeted[0], first.greeted[0], 'at the other reader');

    const third = watch(readerUrl, 'cem');
    open.push(third);
    await until('two refusals', () => third.failed >= 2, 30);
    assert.equal(third.source.readyState, EventSource.CONNECTING, 'it comes back');
    assert.equal(third.greeted.length, 0);
    first.source.close();
    await until('the third viewer', () => third.greeted.length === 1, 30);
    assert.deepEqual(open.map(({ greeted }) => greeted.length), [1, 1, 1]);
  } finally {
    for (const { source } of open) source.close();
    child.kill('SIGTERM');
    await once(child, 'exit');
    await rm(directory, { recursive: true, force: true });
  }
});
