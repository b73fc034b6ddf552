/**
 * Makes web/liverank.js, the one file that the server hands to browsers, from this package's source. With --check it only
 * says whether the file is what would be made.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const TARGET = new URL('../../../web/liverank.js', import.meta.url);
const BANNER = `/**
 * liverank.js: the client of liverank for browsers, in one module without dependencies.
 *
 *   import { Liverank } from './liverank.js';
 *   const liverank = new Liverank({ baseUrl: 'http://localhost:8080' });
 *   liverank.ranking({ limit: 10, onList: (videos) => console.table(videos) });
 *   const chat = liverank.comments('cat', { userid: 'ana', onComment: (comment) => console.log(comment.comment) });
 *   await liverank.postComment({ userid: 'ana', videoid: 'cat', comment: 'hello' });
 *
 * Made from clients/js/src by \`npm run build\` there. Do not edit.
 */`;

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL('../src/index.ts', import.meta.url))],
  bundle: true,
  write: false,
  format: 'esm',
  target: 'es2022',
  charset: 'utf8',
  banner: { js: BANNER },
});
const made = outputFiles[0].text;

if (process.argv.includes('--check')) {
  const there = await readFile(TARGET, 'utf8').catch(() => '');
  if (there !== made) {
    console.error('web/liverank.js is not what clients/js/src makes: run `npm run build` in clients/js');
    process.exit(1);
  }
} else {
  await writeFile(TARGET, made);
}
