/** The sample app, built and served on a free port. */

import { execFileSync } from 'node:child_process';
import { readFile, rm, mkdtemp } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

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
