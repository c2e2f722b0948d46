// Uploads photos, a few at a time, and shows one card per photo with the result.

import { ApiError, call, callUntilAccepted, pause } from './api.js';
import { drawFaces, drawPhoto } from './draw.js';
import { faceLines, portraits } from './faces.js';

/** Concurrent uploads: a browser opens six connections per server, and the event stream uses one. */
const MAX_UPLOADS = 5;
/** Cards on the page. Older ones are removed to free their memory. */
const MAX_CARDS = 300;
/** Interval between polls for a late result, in seconds. */
const POLL_INTERVAL = 2;

const cards = document.getElementById('cards');
const progress = document.getElementById('progress');
const waiting = [];
let running = 0;
let total = 0;
let done = 0;

/** Adds one card per file, and recognises the files in order. */
export function addPhotos(files) {
  if (running === 0 && waiting.length === 0) {
    total = 0;
    done = 0;
  }
  for (const file of files) {
    total += 1;
    waiting.push({ file, card: newCard(file) });
  }
  while (cards.childElementCount > MAX_CARDS) cards.lastElementChild.remove();
  showProgress();
  startMore();
}

function startMore() {
  while (running < MAX_UPLOADS && waiting.length > 0) {
    running += 1;
    const { file, card } = waiting.shift();
    recognise(file, card).finally(() => {
      running -= 1;
      done += 1;
      showProgress();
      startMore();
    });
  }
}

function showProgress() {
  progress.textContent = total === 0 ? '' : `${done} of ${total} done`;
}

function newCard(file) {
  const item = document.createElement('li');
  item.className = 'card';
  const canvas = document.createElement('canvas');
  canvas.width = 4;
  canvas.height = 3;
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', file.name);
  const words = document.createElement('div');
  const label = document.createElement('p');
  const detail = document.createElement('p');
  const name = document.createElement('p');
  name.className = 'quiet file';
  name.textContent = file.name;
  detail.className = 'quiet detail';
  const note = document.createElement('p');
  note.className = 'quiet';
  note.setAttribute('role', 'status');
  note.tabIndex = -1;
  const faces = document.createElement('ul');
  faces.className = 'faces';
  faces.setAttribute('aria-label', `Faces in ${file.name}`);
  faces.hidden = true;
  words.append(label, detail, name, note, faces);
  item.append(canvas, words);
  cards.prepend(item);
  const card = { item, canvas, label, detail, note, faces };
  say(card, 'waiting', 'waiting…');
  return card;
}

function say(card, kind, text, detail = '') {
  card.label.className = `label ${kind}`;
  card.label.textContent = text;
  card.detail.textContent = detail;
  card.item.dataset.state = kind;
}

async function recognise(file, card) {
  const drawn = drawPhoto(card.canvas, file).catch(() => false);
  try {
    const result = await send(file, card);
    await drawn;
    showResult(file, card, result);
  } catch (error) {
    say(card, 'error', error.message);
  }
}

async function send(file, card) {
  const form = new FormData();
  form.append('myfile', file);
  const options = { method: 'POST', body: form };
  try {
    say(card, 'waiting', 'recognising…');
    return await callUntilAccepted('/v1/recognitions', options, (why) => say(card, 'waiting', why));
  } catch (error) {
    // The job continues: its result will be stored under its id.
    if (!error.body?.id || ![503, 504].includes(error.status)) throw error;
    say(card, 'waiting', 'this is taking longer than usual…');
    return await poll(error.body.id);
  }
}

/** Returns the result of a job as soon as it is stored. */
async function poll(id) {
  for (;;) {
    await pause(POLL_INTERVAL);
    const found = await call(`/v1/recognitions/${id}`).catch((error) => {
      if (error.status === 0 || error.status === 503) return { status: 'pending' }; // the server may be restarting
      throw error;
    });
    if (found.status === 'failed') throw new ApiError(found.problem.status, found.problem.detail);
    if (found.status === 'done') return found;
  }
}

function showResult(file, card, result) {
  const faces = result.faces ?? [];
  card.faces.replaceChildren(...faceLines(file, result, portraits(card.canvas, result), (done) => again(file, card, done)));
  card.faces.hidden = card.faces.childElementCount === 0;
  drawFaces(card.canvas, result);
  const names = faces.map(describe);
  const known = faces.length > 0 ? faces[0].name !== 'unknown' : result.classes?.length > 0;
  let detail = faces.length > 1 ? `${faces.length} faces: ${names.join(', ')}` : '';
  if (faces.length === 1 && faces[0].similarity !== null) detail = `similarity ${faces[0].similarity.toFixed(2)}`;
  if (faces.length === 0) detail = (result.classes ?? []).map((c) => `${c.label} ${(c.probability * 100).toFixed(0)} %`).join(', ');
  say(card, known ? 'known' : 'unknown', result.label, detail);
  card.canvas.setAttribute('aria-label', `${file.name}: ${names.join(', ') || result.label}`);
}

/** Recognises a photo again after a change of the people, and says what was done. */
async function again(file, card, done) {
  // What has the focus is replaced.
  card.note.textContent = done;
  card.note.focus();
  await recognise(file, card);
}

function describe(face) {
  return face.similarity === null ? face.name : `${face.name} ${face.similarity.toFixed(2)}`;
}
