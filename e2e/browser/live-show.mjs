/** The sample app, built and served on a free port; and its demo, which brings its own system. */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm, mkdtemp } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binary, freeListeners, freePorts } from './server.mjs';

const APP = fileURLToPath(new URL('../../examples/live-show', import.meta.url));
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

/** `{origin, close}`. */
export async function serveLiveShow() {
  const out = await mkdtemp(join(tmpdir(), 'liverank-live-show-'));
  const vite = join(createRequire(`${APP}/package.json`).resolve('vite/package.json'), '../bin/vite.js');
  execFileSync(process.execPath, [vite, 'build', '--outDir', out, '--emptyOutDir', '--logLevel', 'warn'], { cwd: APP });
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, 'http://x').pathname;
    const file = path === '/' ? '/index.html' : path;
    const content = await readFile(join(out, file)).catch(() => null);
    response.writeHead(content ? 200 : 404, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' });
    response.end(content);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = async () => {
    server.closeAllConnections();
    server.close();
    await rm(out, { recursive: true, force: true });
  };
  return { origin: `http://127.0.0.1:${server.address().port}`, close };
}

/** How long the demo has for its start, in ms. */
const DEMO_START_MS = 60_000;

/** `npm run demo` on free ports: `{links, origin, end}`. */
export async function startDemo() {
  const { flags, origin } = await freeListeners();
  const [port] = await freePorts(1);
  const env = { ...process.env, LIVERANK_BIN: binary, PORT: String(port) };
  const child = spawn(process.execPath, ['demo.mjs', ...flags], { cwd: APP, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'exit');
  let output = '';
  const ready = new Promise((resolve, reject) => {
    const given = setTimeout(() => reject(new Error(`the demo did not start in time:\n${output}`)), DEMO_START_MS);
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (text) => {
        output += text;
        if (output.includes('Ctrl-C')) resolve(clearTimeout(given));
      });
    }
    exited.then(() => reject(new Error(`the demo ended:\n${output}`)));
  });
  const end = async () => {
    child.kill('SIGTERM');
    await exited;
  };
  await ready.catch(async (error) => {
    await end();
    throw error;
  });
  return { links: output.match(/http:\S+token=\S+/g) ?? [], origin, end };
}
