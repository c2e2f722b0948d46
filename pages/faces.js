// The faces of a photo one by one: an unknown one can be given a name, and a name can be taken back.

import { callUntilAccepted, warningsOf } from './api.js';
import { breakable, refreshPeople } from './people.js';

/** Side of a portrait, in pixels: sharp at its size on the page. */
const PORTRAIT = 96;

let allowed = false;
let fields = 0;

/** Lets names be given, which needs the role of an administrator. */
export function allowNames() {
  allowed = true;
}

/** Cuts the faces out of a photo that is drawn on a canvas, before there are boxes on it. */
export function portraits(canvas, result) {
  const scale = canvas.width / result.width;
  return (result.faces ?? []).map((face) => {
    const [x, y, width, height] = face.bbox.map((v) => v * scale);
    const side = Math.max(width, height, 1);
    const portrait = element('canvas', 'portrait');
    portrait.width = PORTRAIT;
    portrait.height = PORTRAIT;
    portrait.setAttribute('aria-hidden', 'true');
    const [left, top] = [x + (width - side) / 2, y + (height - side) / 2];
    portrait.getContext('2d').drawImage(canvas, left, top, side, side, 0, 0, PORTRAIT, PORTRAIT);
    return portrait;
  });
}

/**
 * Returns one line per face, with what can be done about its name. `onChange` is called with what was done, after which
 * the photo should be recognised again.
 */
export function faceLines(file, result, pictures, onChange) {
  if (!allowed) return [];
  return result.faces.map((face, at) => {
    const line = element('li');
    const title = result.faces.length > 1 ? `Face ${at + 1}` : 'This face';
    const status = element('p', 'quiet');
    status.setAttribute('role', 'status');
    const of = { file, face, title, status, onChange };
    line.append(pictures[at], face.name === 'unknown' ? question(of) : objection(of), status);
    return line;
  });
}

/** Returns the button that asks for a name, and the form behind it. */
function question(of) {
  const both = element('div', 'who');
  const button = element('button', 'plain', 'Who is this?');
  button.type = 'button';
  button.setAttribute('aria-label', `Who is this? ${of.title}`);
  button.addEventListener('click', () => {
    const form = nameForm(of, () => {
      form.replaceWith(button);
      button.focus();
    });
    button.replaceWith(form);
    form.querySelector('input').focus();
  });
  both.append(button);
  return both;
}

function nameForm(of, close) {
  fields += 1;
  const form = element('form');
  const label = element('label', 'quiet', 'Who is this?');
  const input = element('input');
  input.id = `who-${fields}`;
  label.htmlFor = input.id;
  input.required = true;
  input.maxLength = 100;
  input.autocomplete = 'off';
  input.setAttribute('list', 'known-names');
  const save = element('button', '', 'Save');
  const cancel = element('button', 'plain', 'Cancel');
  cancel.type = 'button';
  cancel.addEventListener('click', close);
  form.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') close();
  });
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const name = input.value.trim();
    save.disabled = true;
    await change(of, '/v1/people', [['name', name]], (added) => {
      const warnings = warningsOf(added.photos[0]);
      return `This photo was added to ${added.name}${warnings && `, but may not be a good one: ${warnings}`}.`;
    });
    save.disabled = false;
  });
  form.append(label, input, save, cancel);
  return form;
}

/** Returns the name of a face with the button that takes it back. */
function objection(of) {
  const both = element('div', 'who');
  const name = element('span', 'name');
  name.append(...breakable(of.face.name));
  const button = element('button', 'plain', 'Not this person');
  button.type = 'button';
  button.setAttribute('aria-label', `Not this person: ${of.face.name}`);
  button.addEventListener('click', async () => {
    button.disabled = true;
    const path = `/v1/people/${encodeURIComponent(of.face.name)}/rejections`;
    await change(of, path, [], (done) => `This face is not given the name ${done.name} again.`);
    button.disabled = false;
  });
  both.append(name, button);
  return both;
}

/** Sends the photo and which of its faces is meant, and then reports what was done. */
async function change(of, path, texts, done) {
  const say = (text, isError = false) => {
    of.status.textContent = text;
    of.status.classList.toggle('error', isError);
  };
  const form = new FormData();
  for (const [name, text] of [...texts, ['box', of.face.bbox.join(',')]]) form.append(name, text);
  form.append('photos', of.file);
  say('one moment…');
  try {
    const options = { method: 'POST', body: form };
    const answer = await callUntilAccepted(path, options, (why) => say(why));
    say('');
    await Promise.all([refreshPeople(), of.onChange(done(answer))]);
  } catch (error) {
    const reasons = (error.body?.photos ?? []).map((photo) => photo.problem);
    say([error.message, ...reasons].join('. '), true);
  }
}

function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
