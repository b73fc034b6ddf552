/** The page of the API: made from /openapi.json and /asyncapi.json as they are served, so that it says what they say. */

const part = (id) => document.getElementById(id);

/** An element with its children; texts are texts, never markup. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined && value !== false) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ''));
  return made;
}

/** A text of the document: paragraphs, and `code` between back-ticks. */
function prose(text, tag = 'p') {
  if (!text) return [];
  return text
    .trim()
    .split(/\n\s*\n/)
    .map((paragraph) => element(tag, {}, ...inline(paragraph.replace(/\s+/g, ' '))));
}

function inline(text) {
  return text.split('`').map((piece, index) => (index % 2 === 1 ? element('code', {}, piece) : piece));
}

// ------------------------------------------------------------------------------------------------------------ schemas

class Schemas {
  #document;

  constructor(document) {
    this.#document = document;
  }

  /** What a `$ref` stands for; members beside it go first. */
  of(value) {
    if (!value?.$ref) return value ?? {};
    const { $ref, ...beside } = value;
    const found = $ref.slice(2).split('/').reduce((at, name) => at?.[name.replaceAll('~1', '/').replaceAll('~0', '~')], this.#document);
    return { ...this.of(found), ...beside };
  }

  /** With the parts of `allOf` put together. */
  merged(value) {
    const schema = this.of(value);
    if (!schema.allOf) return schema;
    const parts = schema.allOf.map((one) => this.merged(one));
    return {
      type: 'object',
      ...schema,
      required: [...parts, schema].flatMap((one) => one.required ?? []),
      properties: Object.assign({}, ...[...parts, schema].map((one) => one.properties ?? {})),
    };
  }

  /** The type in a few words. */
  type(value) {
    const schema = this.merged(value);
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(' | ');
    const choices = schema.anyOf ?? schema.oneOf;
    if (choices) return [...new Set(choices.map((one) => this.type(one)))].join(' | ');
    const types = [schema.type ?? 'any'].flat();
    return types.map((type) => (type === 'array' ? `${this.type(schema.items)}[]` : type)).join(' | ');
  }

  /** Bounds that a reader wants to know. */
  bounds(value) {
    const schema = this.merged(value);
    const said = [];
    const range = (low, high, unit) => {
      if (low !== undefined && high !== undefined) said.push(`${low} to ${high}${unit}`);
      else if (low) said.push(`at least ${low}${unit}`);
      else if (high !== undefined) said.push(`at most ${high}${unit}`);
    };
    range(schema.minimum, schema.maximum > 2 ** 53 ? undefined : schema.maximum, '');
    range(schema.minLength, schema.maxLength, ' characters');
    range(schema.minItems, schema.maxItems, ' items');
    if (schema.default !== undefined) said.push(`default ${JSON.stringify(schema.default)}`);
    return said.join(', ');
  }

  /** A table of an object's properties, nested ones indented; null where it has none. */
  table(value, depth = 0) {
    const rows = this.#rows(value, depth);
    return rows.length === 0 ? null : element('table', {}, element('tbody', {}, ...rows));
  }

  #rows(value, depth) {
    const schema = this.merged(value);
    if (schema.type === 'array') return this.#rows(schema.items, depth);
    return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
      const row = this.row(name, property, (schema.required ?? []).includes(name), depth);
      return depth < 3 ? [row, ...this.#rows(property, depth + 1)] : [row];
    });
  }

  row(name, value, required, depth = 0) {
    const { description } = this.merged(value);
    const bounds = this.bounds(value);
    return element(
      'tr',
      {},
      element('th', { scope: 'row', class: `depth-${depth}` }, element('code', {}, name), required ? '' : element('span', { class: 'optional' }, ' optional')),
      element('td', {}, element('span', { class: 'type' }, this.type(value)), bounds && element('span', { class: 'bounds' }, bounds)),
      element('td', {}, ...inline(description ?? '')),
    );
  }
}

// --------------------------------------------------------------------------------------------------------- operations

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

class Page {
  #schemas;
  #document;
  #menu = [];

  constructor(document) {
    this.#document = document;
    this.#schemas = new Schemas(document);
  }

  /** Everything that clients may ask. */
  *sections() {
    const operations = Object.entries(this.#document.paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]).map((method) => ({ path, method, item, ...item[method] })),
    );
    for (const { name, description } of this.#document.tags) {
      const own = operations.filter((operation) => operation.tags[0] === name);
      if (own.length === 0) continue;
      this.#menu.push([name, own.map(({ operationId, method, path }) => [operationId, method.toUpperCase(), path])]);
      yield element('section', {}, element('h2', { id: `tag-${name}` }, name), ...prose(description), ...own.map((operation) => this.#operation(operation)));
    }
  }

  get menu() {
    return this.#menu;
  }

  #operation({ operationId, method, path, summary, description, parameters = [], item, requestBody, responses, security }) {
    const all = [...(item.parameters ?? []), ...parameters].map((one) => this.#schemas.of(one));
    const body = this.#schemas.of(requestBody);
    return element(
      'article',
      { id: operationId, 'data-words': `${method} ${path} ${summary}`.toLowerCase() },
      element('h3', {}, element('span', { class: `method ${method}` }, method.toUpperCase()), ' ', element('code', {}, path)),
      element('p', { class: 'summary' }, ...inline(summary)),
      ...prose(description),
      security ? element('p', { class: 'hint' }, 'Where the system asks viewers for tokens: ', element('code', {}, 'Authorization: Bearer <token>'), '.') : null,
      ...this.#parameters(all),
      ...this.#body(body),
      this.#example(method, path, all, body),
      ...this.#responses(responses),
    );
  }

  #parameters(parameters) {
    if (parameters.length === 0) return [];
    const rows = parameters.map(({ name, in: place, required, schema, description }) => {
      const row = this.#schemas.row(name, { ...this.#schemas.of(schema), ...(description && { description }) }, required);
      row.firstChild.append(element('span', { class: 'optional' }, ` in ${place}`));
      return row;
    });
    return [element('h4', {}, 'Parameters'), element('table', {}, element('tbody', {}, ...rows))];
  }

  #body({ content }) {
    const schema = content?.['application/json']?.schema;
    if (!schema) return [];
    const table = this.#schemas.table(schema);
    return [element('h4', {}, 'Body'), table ?? element('p', {}, ...inline(this.#schemas.of(schema).description ?? this.#schemas.type(schema)))];
  }

  #example(method, path, parameters, { content }) {
    const example = Object.values(content?.['application/json']?.examples ?? {})[0]?.value;
    let where = path;
    const query = [];
    for (const { name, in: place, required, example: value } of parameters) {
      if (place === 'path') where = where.replace(`{${name}}`, encodeURIComponent(value ?? name));
      else if (place === 'query' && required) query.push(`${name}=${encodeURIComponent(value ?? name)}`);
    }
    const url = `${location.origin}${where}${query.length > 0 ? `?${query.join('&')}` : ''}`;
    const quoted = `'${url}'`;
    const command = path.startsWith('/ws/')
      ? `websocat '${url.replace(/^http/, 'ws')}'`
      : method === 'get'
        ? `curl ${path === '/connect' ? '-N ' : ''}${quoted}`
        : `curl ${quoted} --json '${JSON.stringify(example ?? {})}'`;
    const copy = element('button', { type: 'button', class: 'quiet copy' }, 'Copy');
    copy.addEventListener('click', async () => {
      copy.textContent = await navigator.clipboard.writeText(command).then(() => 'Copied', () => 'Not copied');
    });
    return element('div', { class: 'example' }, element('pre', { tabindex: '0' }, command), copy);
  }

  #responses(responses) {
    const entries = Object.entries(responses).map(([status, response]) => [status, this.#schemas.of(response)]);
    const good = entries.filter(([status]) => status < '300');
    const bad = entries.filter(([status]) => status >= '300');
    return [
      ...good.flatMap(([status, { description, content }]) => {
        const schema = Object.values(content ?? {})[0]?.schema;
        return [element('h4', {}, status, ' ', element('span', { class: 'what' }, ...inline(description))), schema && this.#schemas.table(schema)];
      }),
      bad.length > 0
        ? element(
            'dl',
            { class: 'errors' },
            ...bad.flatMap(([status, { description }]) => [element('dt', {}, status), element('dd', {}, ...inline(description))]),
          )
        : null,
    ].filter(Boolean);
  }
}

/** What the streams carry. */
function streams(document) {
  const schemas = new Schemas(document);
  const channels = Object.entries(document.channels);
  const articles = channels.map(([name, channel]) => {
    const query = channel.bindings?.ws?.query?.properties ?? {};
    const rows = Object.entries(query).map(([parameter, schema]) => schemas.row(parameter, schema, false));
    const messages = Object.values(channel.messages).map((one) => schemas.of(one));
    return element(
      'article',
      { id: `channel-${name}`, 'data-words': `${channel.address} ${channel.title}`.toLowerCase() },
      element('h3', {}, element('span', { class: 'method stream' }, channel.address === '/connect' ? 'SSE' : 'WS'), ' ', element('code', {}, channel.address)),
      element('p', { class: 'summary' }, channel.title),
      ...prose(channel.description),
      ...(rows.length > 0 ? [element('h4', {}, 'Parameters'), element('table', {}, element('tbody', {}, ...rows))] : []),
      ...messages.flatMap(({ title, description, payload, examples }) => [
        element('h4', {}, title),
        ...prose(description),
        schemas.table(payload),
        examples && element('pre', { tabindex: '0' }, JSON.stringify(examples[0].payload)),
      ]),
    );
  });
  const menu = ['streams', channels.map(([name, { address }]) => [`channel-${name}`, address === '/connect' ? 'SSE' : 'WS', address])];
  const head = [element('h2', { id: 'streams-carry' }, 'What streams carry'), ...prose(document.info.description)];
  return { menu, section: element('section', {}, ...head, ...articles) };
}

function showMenu(menu) {
  part('menu').replaceChildren(
    ...menu.flatMap(([name, entries]) => [
      element('h2', {}, name),
      element(
        'ul',
        {},
        ...entries.map(([id, method, path]) =>
          element('li', {}, element('a', { href: `#${id}` }, element('span', { class: `method ${method.toLowerCase()}` }, method), ' ', path)),
        ),
      ),
    ]),
  );
}

part('filter').addEventListener('input', () => {
  const words = part('filter').value.trim().toLowerCase();
  for (const article of document.querySelectorAll('article')) {
    article.hidden = !article.dataset.words.includes(words);
    const entry = document.querySelector(`#menu a[href="#${article.id}"]`);
    if (entry) entry.parentElement.hidden = article.hidden;
  }
  for (const section of document.querySelectorAll('#content section')) section.hidden = [...section.querySelectorAll('article')].every((one) => one.hidden);
});

async function show() {
  const read = async (path) => {
    const response = await fetch(path);
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return response.json();
  };
  const [openapi, asyncapi] = await Promise.all([read('/openapi.json'), read('/asyncapi.json')]);
  const page = new Page(openapi);
  const sections = [...page.sections()];
  const carried = streams(asyncapi);
  part('version').textContent = `version ${openapi.info.version}`;
  part('content').replaceChildren(element('section', { class: 'intro' }, ...prose(openapi.info.description)), ...sections, carried.section);
  showMenu([...page.menu, carried.menu]);
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

show().catch((error) => part('content').replaceChildren(element('p', { class: 'empty' }, `The document could not be read: ${error.message}`)));
