/** The code in the documents: TypeScript takes all of it, as strictly as it can. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const DOCUMENTS = ['README.md', 'clients/js/README.md', 'clients/react/README.md'];

/** The fenced blocks of a document in these languages. */
function blocks(document) {
  const text = readFileSync(join(ROOT, document), 'utf8');
  return [...text.matchAll(/^```(js|ts|tsx)\n([\s\S]*?)^```$/gm)].map(([, language, code]) => ({ document, language, code }));
}

test('the examples in the documents pass tsc --strict', () => {
  // Inside clients/react, which has React's types and both packages.
  const folder = mkdtempSync(join(ROOT, 'clients/react/.docs-'));
  try {
    const found = DOCUMENTS.flatMap(blocks);
    assert.ok(found.length >= 4, `${found.length} examples`);
    found.forEach(({ language, code }, index) => {
      // JavaScript is checked as what it is in a TypeScript project.
      writeFileSync(join(folder, `example-${index}.${language === 'js' ? 'ts' : language}`), `${code}\nexport {};\n`);
    });
    symlinkSync(join(ROOT, 'clients/react'), join(folder, 'react-package'));
    const options = {
      strict: true, noEmit: true, target: 'ES2022', module: 'NodeNext', moduleResolution: 'NodeNext', jsx: 'react-jsx',
      lib: ['ES2023', 'DOM', 'DOM.Iterable'], types: [], skipLibCheck: false,
      paths: { '@liverank/react': ['./react-package/dist/index.d.ts'] },
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, include: ['example-*'] }));
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
    try {
      execFileSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' });
    } catch (error) {
      assert.fail(`${found.map(({ document }, index) => `example-${index}: ${document}`).join('\n')}\n${error.stdout}`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
