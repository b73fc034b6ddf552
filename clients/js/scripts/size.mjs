/** Says how large the client is in a browser's bundle: minified, and compressed with gzip. */

import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const CASES = {
  'all of it': "export * from './src/index.ts'",
  'Liverank alone': "export { Liverank } from './src/index.ts'",
  'the SSE parser alone': "export { createSseParser } from './src/index.ts'",
};

for (const [name, contents] of Object.entries(CASES)) {
  const stdin = { contents, resolveDir: new URL('..', import.meta.url).pathname };
  const { outputFiles } = await build({ stdin, bundle: true, write: false, format: 'esm', target: 'es2022', minify: true });
  const bytes = outputFiles[0].contents;
  console.log(`${name.padEnd(22)} ${String(bytes.length).padStart(6)} bytes  ${String(gzipSync(bytes, { level: 9 }).length).padStart(6)} gzip`);
}
