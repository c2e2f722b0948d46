// The page to try the API: a form for each operation of its description.

/** Types of the bodies that a form can send. */
const FORM = 'multipart/form-data';
const JSON_TYPE = 'application/json';
/** Longest text of a response that is shown, in characters. */
const SHOWN = 20000;

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

/** Follows a reference in the description. */
const resolved = (api, schema) =>
  schema?.$ref ? schema.$ref.slice(2).split('/').reduce((at, key) => at[key], api) : schema ?? {};

/** Returns a labelled input for a parameter or a part of a form. */
function field(name, description, required, input) {
  input.name = name;
  input.required = required;
  const text = element('span', {}, element('code', { textContent: name }), required ? ' (required)' : '');
  const about = element('span', { className: 'quiet', textContent: description ?? '' });
  return element('p', {}, element('label', {}, text, ' ', input), ' ', about);
}

function inputsOf(api, operation) {
  const fields = [];
  for (const parameter of operation.parameters ?? []) {
    const input = element('input', { type: 'text', autocomplete: 'off' });
    input.dataset.place = parameter.in;
    fields.push(field(parameter.name, parameter.description, parameter.required, input));
  }
  const content = operation.requestBody?.content ?? {};
  if (content[FORM]) {
    const schema = resolved(api, content[FORM].schema);
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      const isFile = (property.items ?? property).format === 'binary';
      const input = element('input', isFile ? { type: 'file', multiple: property.type === 'array' } : { type: 'text' });
      input.dataset.place = isFile ? 'file' : 'text';
      fields.push(field(name, property.description, (schema.required ?? []).includes(name), input));
    }
  } else if (content[JSON_TYPE]) {
    const input = element('textarea', { rows: 4, cols: 60 });
    input.dataset.place = 'json';
    fields.push(field('body', 'JSON', true, input));
  }
  return fields;
}

/** Returns the request that a form describes. */
function request(form, method, path, isCompreFace) {
  const query = new URLSearchParams();
  const headers = new Headers();
  const parts = new FormData();
  let [address, body] = [path, undefined];
  for (const input of form.elements) {
    const { place } = input.dataset;
    if (!place || (place !== 'file' && input.value === '')) continue;
    if (place === 'path') address = address.replace(`{${input.name}}`, encodeURIComponent(input.value));
    if (place === 'query') query.append(input.name, input.value);
    if (place === 'header') headers.append(input.name, input.value);
    if (place === 'text') parts.append(input.name, input.value);
    if (place === 'file') for (const file of input.files) parts.append(input.name, file);
    if (place === 'json') {
      body = input.value;
      headers.set('Content-Type', JSON_TYPE);
    }
  }
  if ([...parts].length > 0) body = parts;
  const token = document.getElementById('token').value;
  if (token && isCompreFace) headers.set('x-api-key', token);
  else if (token) headers.set('Authorization', `Bearer ${token}`);
  const suffix = query.size > 0 ? `?${query}` : '';
  return [address + suffix, { method: method.toUpperCase(), headers, body }];
}

async function send(form, output, method, path, operation) {
  const [address, options] = request(form, method, path, operation.tags.includes('CompreFace'));
  output.textContent = 'sending…';
  try {
    const response = await fetch(address, options);
    const type = response.headers.get('Content-Type') ?? '';
    let text = `${options.method} ${address}\n${response.status} ${response.statusText}\n${type}\n\n`;
    if (type.startsWith('text/event-stream')) {
      await response.body.cancel();
      text += '(a stream; it is not shown here)';
    } else if (type.includes('json')) {
      text += JSON.stringify(await response.json(), null, 2);
    } else if (type.startsWith('text/')) {
      text += await response.text();
    } else {
      text += `(${(await response.blob()).size} bytes)`;
    }
    output.textContent = text.length > SHOWN ? `${text.slice(0, SHOWN)}\n…` : text;
  } catch (error) {
    output.textContent = `the request failed: ${error.message}`;
  }
}

function shown(api, path, method, operation) {
  const output = element('pre', { tabIndex: 0, hidden: true });
  output.setAttribute('role', 'status');
  const form = element('form', {}, ...inputsOf(api, operation), element('button', { textContent: 'Send' }));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    output.hidden = false;
    send(form, output, method, path, operation);
  });
  const title = element('code', { textContent: `${method.toUpperCase()} ${path}` });
  const summary = element('summary', {}, title, ` ${operation.summary ?? ''}`);
  return element('details', {}, summary, form, output);
}

async function start() {
  const api = await (await fetch('/v1/openapi.json')).json();
  const byTag = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      const [tag] = operation.tags;
      if (!byTag.has(tag)) byTag.set(tag, []);
      byTag.get(tag).push(shown(api, path, method, operation));
    }
  }
  const sections = [...byTag].map(([tag, operations]) =>
    element('section', {}, element('h2', { textContent: tag }), ...operations));
  document.getElementById('operations').replaceChildren(...sections);
}

start().catch((error) => {
  document.getElementById('status').textContent = `The description could not be read: ${error.message}`;
});
