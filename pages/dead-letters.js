// Lists the jobs that were given up, sends them again and purges them. For administrators.

import { call } from './api.js';

/** Pause between two looks at the list while the page is visible, in milliseconds. */
const REFRESH_EVERY = 60_000;

const section = document.getElementById('dead-letters');
const list = document.getElementById('dead-letters-list');
const status = document.getElementById('dead-letters-status');

export function followDeadLetters() {
  refresh();
  setInterval(() => {
    if (!document.hidden) refresh();
  }, REFRESH_EVERY);
}

async function refresh() {
  try {
    const letters = (await call('/v1/dead-letters')).dead_letters;
    list.replaceChildren(...letters.map(entry));
    document.getElementById('dead-letters-count').textContent = letters.length || '';
    if (letters.length > 0) section.hidden = false; // and it stays, with what was done
  } catch (error) {
    section.hidden = false;
    say(`cannot list dead letters: ${error.message}`, true);
  }
}

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle('error', isError);
}

function entry(letter) {
  const item = document.createElement('li');
  const file = document.createElement('span');
  file.className = 'name';
  file.textContent = letter.file;
  file.title = letter.id;
  const reason = document.createElement('span');
  reason.className = 'quiet';
  reason.textContent = `${new Date(letter.given_up_ms).toLocaleString()}: ${letter.reason}`;
  const path = `/v1/dead-letters/${letter.id}`;
  const retry = button('Send again', letter, () => change(path, 'POST', `${letter.file} was sent again.`));
  const purge = button('Purge', letter, () => {
    if (!window.confirm(`Purge ${letter.file}? Its photo and its result are deleted.`)) return;
    change(path, 'DELETE', `${letter.file} was purged.`);
  });
  item.append(file, retry, purge, reason);
  return item;
}

function button(text, letter, act) {
  const made = document.createElement('button');
  made.className = 'plain';
  made.textContent = text;
  made.setAttribute('aria-label', `${text}: ${letter.file}`);
  made.addEventListener('click', act);
  return made;
}

async function change(path, method, done) {
  try {
    await call(path, { method });
    say(done);
  } catch (error) {
    say(error.message, true);
  }
  await refresh();
}
