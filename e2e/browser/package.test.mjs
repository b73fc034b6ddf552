/** The packages as a user has them: packed, installed from the tarballs, and the documents' snippets run as printed. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { prepareServer } from './server.mjs';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
let server;
let project;

before(async () => {
  server = await prepareServer();
  project = await mkdtemp(join(tmpdir(), 'liverank-package-'));
  await server.start();
  await writeFile(join(project, 'package.json'), '{"type":"module","private":true}');
  const packed = [];
  for (const name of ['js', 'react']) {
    const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', project], { cwd: join(ROOT, 'clients', name) });
    packed.push(`./${stdout.trim().split('\n').at(-1)}`);
  }
  await run('npm', ['install', '--no-audit', '--no-fund', '--silent', ...packed, 'react@19.2.0'], { cwd: project });
});

after(async () => {
  await server?.remove();
  if (project) await rm(project, { recursive: true, force: true });
});

/** Runs JavaScript in the project until its output has all of `wanted`, then ends it. */
async function prints(code, wanted) {
  const file = join(project, 'snippet.mjs');
  await writeFile(file, code);
  const child = execFile(process.execPath, [file], { cwd: project });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
  try {
    const deadline = Date.now() + 20_000;
    while (!wanted.every((text) => output.includes(text))) {
      assert.ok(Date.now() < deadline && (child.exitCode === null || child.exitCode === 0), `in vain: ${wanted}; there is:\n${output}`);
      if (child.exitCode === 0) await new Promise((resolve) => setTimeout(resolve, 50));
      assert.ok(child.exitCode === null || wanted.every((text) => output.includes(text)), `it ended with:\n${output}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } finally {
    child.kill();
  }
}

for (const document of ['README.md', 'clients/js/README.md']) {
  test(`the snippet of ${document} runs in Node as printed`, async () => {
    const text = await readFile(join(ROOT, document), 'utf8');
    const [, code] = /^```js\n([\s\S]*?)^```$/m.exec(text);
    assert.ok(code.includes('http://localhost:8080'));
    // The one thing that differs here: where the system is.
    await prints(code.replaceAll('http://localhost:8080', server.origin), ['Hello!', "'cats'"]);
  });
}

test('the hooks can be imported from the tarball', async () => {
  await prints("console.log(Object.keys(await import('@liverank/react')).join());", ['useComments', 'useRanking']);
});
