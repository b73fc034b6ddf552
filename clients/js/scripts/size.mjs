/**
 * Says how large the client is in a browser's bundle: minified, and compressed with gzip. With --check it only says whether the
 * README has these figures.
 */

import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const CASES = {
  'all of it': "export * from './src/index.ts'",
  'Liverank alone': "export { Liverank } from './src/index.ts'",
  'the SSE parser alone': "export { createSseParser } from './src/index.ts'",
};
/** Another zlib compresses a little differently: so large a part of a figure may lie between the README's and this machine's. */
const GZIP_TOLERANCE = 0.02;

/** The sizes of a case, as the README has them. */
const line = (name, { minified, gzip }) => `${name.padEnd(22)} ${String(minified).padStart(6)} bytes  ${String(gzip).padStart(6)} gzip`;

async function measure(contents) {
  const stdin = { contents, resolveDir: new URL('..', import.meta.url).pathname };
  const { outputFiles } = await build({ stdin, bundle: true, write: false, format: 'esm', target: 'es2022', minify: true });
  const bytes = outputFiles[0].contents;
  return { minified: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length };
}

/** What a document says of a case; null where it says nothing. */
function stated(text, name) {
  const found = new RegExp(`^ *${name} +(\\d+) bytes +(\\d+) gzip$`, 'm').exec(text);
  return found && { minified: Number(found[1]), gzip: Number(found[2]) };
}

const isRight = (said, size) => said?.minified === size.minified && Math.abs(said.gzip - size.gzip) <= GZIP_TOLERANCE * size.gzip;
const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8');
const wrong = [];
for (const [name, contents] of Object.entries(CASES)) {
  const size = await measure(contents);
  if (!isRight(stated(readme, name), size)) wrong.push(line(name, size));
  if (!process.argv.includes('--check')) console.log(line(name, size));
}
if (process.argv.includes('--check') && wrong.length > 0) {
  console.error(`README.md states other sizes than:\n${wrong.join('\n')}`);
  process.exit(1);
}
