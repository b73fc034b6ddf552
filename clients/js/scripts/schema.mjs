/**
 * Makes src/schema.ts, the types of what travels, from the server's OpenAPI document. With --check it only says whether the
 * file is what would be made.
 */

import { readFile, writeFile } from 'node:fs/promises';
import openapiTS, { astToString } from 'openapi-typescript';
import { parse } from 'yaml';

const SOURCE = new URL('../../../services/gateway/openapi/openapi.yaml', import.meta.url);
const TARGET = new URL('../src/schema.ts', import.meta.url);
/** What the client speaks of. What these refer to comes along. */
const ROOTS = [
  'Acknowledged',
  'BanAnswer',
  'BanPage',
  'BanRequest',
  'Boards',
  'Comment',
  'CommentPage',
  'CommentRulesAnswer',
  'CommentRulesPage',
  'CommentRulesRequest',
  'Connected',
  'Deleted',
  'Gap',
  'HeldPage',
  'Interaction',
  'ModerationPage',
  'NumberedComment',
  'OwnRanked',
  'PinAnswer',
  'Pinned',
  'Problem',
  'Ranked',
  'RankingDelta',
  'RankingPart',
  'RankingSnapshot',
  'ReportPage',
  'ReportReason',
  'Statistics',
  'Video',
  'VideoPage',
  'ViewerCount',
];

/** Names of the schemas that `value` refers to. */
function references(value) {
  if (Array.isArray(value)) return value.flatMap(references);
  if (value === null || typeof value !== 'object') return [];
  const own = typeof value.$ref === 'string' ? [value.$ref.replace('#/components/schemas/', '')] : [];
  return [...own, ...Object.values(value).flatMap(references)];
}

const document = parse(await readFile(SOURCE, 'utf8'), { merge: true, maxAliasCount: -1 });
const all = document.components.schemas;
const schemas = {};
for (let todo = [...ROOTS]; todo.length > 0; ) {
  const name = todo.pop();
  if (name in schemas) continue;
  if (!all[name]) throw new Error(`the document has no schema ${name}`);
  schemas[name] = all[name];
  todo = todo.concat(references(all[name]));
}
const sorted = Object.fromEntries(Object.entries(schemas).sort(([a], [b]) => (a < b ? -1 : 1)));
const ast = await openapiTS({ openapi: document.openapi, info: document.info, paths: {}, components: { schemas: sorted } });
const made = `/** Made by \`npm run schema\` from services/gateway/openapi/openapi.yaml. Do not edit. */\n\n${astToString(ast)}`;

if (process.argv.includes('--check')) {
  const there = await readFile(TARGET, 'utf8').catch(() => '');
  if (there !== made) {
    console.error('src/schema.ts is not what the OpenAPI document says: run `npm run schema`');
    process.exit(1);
  }
} else {
  await writeFile(TARGET, made);
}
