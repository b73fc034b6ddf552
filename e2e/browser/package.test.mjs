/** The packages as a user has them: packed, installed from the tarballs, and the documents' snippets run as printed; in Node, Bun and Deno. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Liverank } from '../../clients/js/dist/node.js';
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

/** What the package says that it runs in, and how each runs a file. Bun and Deno come with `testbed/testbed install node-tools`. */
const RUNTIMES = {
  Node: () => [process.execPath],
  Bun: () => [tool('@oven/bun-linux-', { x64: 'x64', arm64: 'aarch64' }, 'bin/bun')],
  Deno: () => [tool('@deno/linux-', { x64: 'x64-glibc', arm64: 'arm64-glibc' }, 'deno'), 'run', '--allow-net', '--allow-env', '--allow-read'],
};

/** A program of the testbed's packages for this kind of machine. */
function tool(name, kinds, file) {
  const folder = process.env.LIVERANK_TEST_NODE_MODULES;
  const path = folder && join(folder, `${name}${kinds[process.arch]}`, file);
  assert.ok(path && existsSync(path), 'it is not there: testbed/testbed install node-tools && eval "$(testbed/testbed env)"');
  return path;
}

/** Runs JavaScript in the project with one of these: `{prints, end}`. */
async function runs(runtime, code) {
  await writeFile(join(project, 'snippet.mjs'), code);
  const [command, ...flags] = RUNTIMES[runtime]();
  // Deno keeps what it has compiled, and asks for a newer one.
  const env = { ...process.env, DENO_DIR: join(project, '.deno'), DENO_NO_UPDATE_CHECK: '1', NO_COLOR: '1' };
  const child = execFile(command, [...flags, 'snippet.mjs'], { cwd: project, env });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
  /** Waits until the output has all of these; returns it. */
  const prints = async (wanted) => {
    const deadline = Date.now() + 60_000;
    while (!wanted.every((text) => output.includes(text))) {
      assert.ok(Date.now() < deadline && (child.exitCode === null || child.exitCode === 0), `in vain: ${wanted}; there is:\n${output}`);
      if (child.exitCode === 0) await new Promise((resolve) => setTimeout(resolve, 50));
      assert.ok(child.exitCode === null || wanted.every((text) => output.includes(text)), `it ended with:\n${output}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return output;
  };
  return { prints, end: () => child.kill() };
}

for (const [document, runtimes] of [['README.md', ['Node']], ['clients/js/README.md', Object.keys(RUNTIMES)]]) {
  for (const runtime of runtimes) {
    test(`the snippet of ${document} runs in ${runtime} as printed`, async () => {
      const text = await readFile(join(ROOT, document), 'utf8');
      const [, code] = /^```js\n([\s\S]*?)^```$/m.exec(text);
      assert.ok(code.includes('http://localhost:8080'));
      // The one thing that differs here: where the system is.
      const snippet = await runs(runtime, code.replaceAll('http://localhost:8080', server.origin));
      try {
        await snippet.prints(['Hello!', 'cats']);
      } finally {
        snippet.end();
      }
    });
  }
}

for (const runtime of Object.keys(RUNTIMES)) {
  test(`in ${runtime} a stream and a list that are cut go on, and no comment is missing or twice`, async () => {
    const video = `cut-in-${runtime}`;
    const viewer = await runs(runtime, `
      import { Liverank } from '@liverank/client';
      const liverank = new Liverank({ baseUrl: '${server.origin}' });
      liverank.comments('${video}', {
        userid: 'ann',
        onComment: ({ comment }) => console.log('comment', comment + '.'),
        onState: ({ state, attempt }) => console.log('stream', state, attempt),
      });
      liverank.ranking({
        onList: (videos) => videos.forEach((video) => console.log('ranked', video.video_id, video.score + '.')),
        onState: ({ state }) => console.log('list', state),
      });`);
    const poster = new Liverank({ baseUrl: server.origin });
    const post = (comment) => poster.postComment({ userid: 'ben', videoid: video, comment });
    try {
      await viewer.prints(['stream live', 'list live']);
      await post('one');
      await viewer.prints(['comment one.', `ranked ${video} 2.`]);
      await server.kill();
      await viewer.prints(['stream waiting', 'list waiting']);
      await server.start();
      await post('two');
      await post('three');
      const output = await viewer.prints(['comment three.', `ranked ${video} 6.`]);
      assert.deepEqual(output.match(/comment \w+\./g), ['comment one.', 'comment two.', 'comment three.']);
    } finally {
      viewer.end();
    }
  });
}

test('the hooks can be imported from the tarball', async () => {
  const snippet = await runs('Node', "console.log(Object.keys(await import('@liverank/react')).join());");
  await snippet.prints(['useComments', 'useRanking']);
});
