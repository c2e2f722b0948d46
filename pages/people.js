// Lists, adds and removes people.

import { call, callUntilAccepted, warningsOf } from './api.js';

const form = document.getElementById('add-person');
const list = document.getElementById('people-list');
const more = document.getElementById('more-people');
const status = document.getElementById('person-status');
const suggestions = document.getElementById('known-names');

export function startPeople() {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    add();
  });
  refreshPeople();
}

/** Lists the people anew. */
export async function refreshPeople() {
  try {
    const gallery = await call('/v1/people');
    list.replaceChildren(...gallery.people.map(entry));
    suggestions.replaceChildren(...gallery.people.map(suggestion));
    showNext(gallery.next);
    document.getElementById('people-count').textContent = gallery.total || '';
    document.getElementById('no-people').hidden = gallery.total > 0;
  } catch (error) {
    say(`cannot list people: ${error.message}`, true);
  }
}

/** Shows a button for the people after the name `after`, if there are more. */
function showNext(after) {
  more.hidden = after === undefined;
  more.onclick = async () => {
    try {
      const gallery = await call(`/v1/people?after=${encodeURIComponent(after)}`);
      list.append(...gallery.people.map(entry));
      suggestions.append(...gallery.people.map(suggestion));
      showNext(gallery.next);
    } catch (error) {
      say(`cannot list people: ${error.message}`, true);
    }
  };
}

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle('error', isError);
}

async function add() {
  const button = form.querySelector('button');
  button.disabled = true;
  say('analysing the photos…');
  try {
    const options = { method: 'POST', body: new FormData(form) };
    const added = await callUntilAccepted('/v1/people', options, (why) => say(why));
    const refused = added.photos.filter((photo) => !photo.added);
    const unused = refused.map((photo) => `${photo.file} was not used: ${photo.problem}`);
    const poor = added.photos.filter((photo) => warningsOf(photo) !== '');
    const warnings = poor.map((photo) => `${photo.file} may not be a good photo: ${warningsOf(photo)}.`);
    say([`${added.name} now has ${photos(added.photos_total)}.`, ...warnings, ...unused].join(' '), refused.length > 0);
    form.reset();
  } catch (error) {
    const reasons = (error.body?.photos ?? []).map((photo) => `${photo.file}: ${photo.problem}`);
    say([error.message, ...reasons].join('. '), true);
  }
  button.disabled = false;
  await refreshPeople();
}

function photos(count) {
  return count === 1 ? '1 photo' : `${count} photos`;
}

/** Returns a name as nodes, so that a long one wraps between its words. */
export function breakable(name) {
  return name.split(/(?<=[_ -])/).flatMap((word) => [word, document.createElement('wbr')]);
}

function suggestion(person) {
  const option = document.createElement('option');
  option.value = person.name;
  return option;
}

function entry(person) {
  const item = document.createElement('li');
  const name = document.createElement('span');
  name.className = 'name';
  name.append(...breakable(person.name));
  const count = document.createElement('span');
  count.className = 'quiet';
  count.textContent = photos(person.photos);
  const button = document.createElement('button');
  button.className = 'plain remove';
  button.textContent = 'Remove';
  button.setAttribute('aria-label', `Remove ${person.name}`);
  button.addEventListener('click', () => remove(person.name));
  item.append(name, count, button);
  return item;
}

async function remove(name) {
  if (!window.confirm(`Remove ${name}? Their face will be reported as unknown.`)) return;
  try {
    await call(`/v1/people/${encodeURIComponent(name)}`, { method: 'DELETE' });
    say(`${name} was removed.`);
  } catch (error) {
    say(error.message, true);
  }
  await refreshPeople();
}
