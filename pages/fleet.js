// The fleet, live: server-sent events, and polling where they do not come through.

import { call } from './api.js';

/** Milliseconds between polls. */
const POLL = 2000;
/** Milliseconds until events are tried again. */
const RETRY = 30000;
/** Entries of the event log that are shown. */
const LINES = 12;
/** Terminated instances that are shown. */
const GONE = 4;

const link = document.getElementById('fleet-link');
let timer = null;

export function followFleet() {
  const events = new EventSource('/v1/events');
  events.addEventListener('fleet', (event) => {
    stopPolling();
    link.textContent = 'live';
    show(JSON.parse(event.data));
  });
  events.addEventListener('error', () => {
    startPolling();
    // Closed for good (too many streams): EventSource does not come back by itself.
    if (events.readyState === EventSource.CLOSED) setTimeout(followFleet, RETRY);
  });
}

function startPolling() {
  if (timer !== null) return;
  poll();
  timer = setInterval(poll, POLL);
}

function stopPolling() {
  clearInterval(timer);
  timer = null;
}

async function poll() {
  try {
    show(await call('/v1/fleet'));
    link.textContent = 'every 2 s';
  } catch {
    link.textContent = 'the server cannot be reached';
  }
}

function text(id, value) {
  document.getElementById(id).textContent = value;
}

function show(view) {
  text('visible', view.depth.visible + view.depth.delayed);
  text('in-flight', view.depth.in_flight);
  text('demand', view.demand);
  text('target', view.target);
  text('cap', view.max_instances);
  const gone = view.instances.filter((i) => i.state === 'terminated').slice(-GONE);
  const there = view.instances.filter((i) => i.state !== 'terminated');
  document.getElementById('instances').replaceChildren(...[...there, ...gone].map(tile));
  document.getElementById('no-instances').hidden = there.length > 0;
  document.getElementById('events').replaceChildren(...view.events.slice(-LINES).reverse().map(line));
}

function tile(instance) {
  const item = document.createElement('li');
  item.className = 'instance';
  item.dataset.state = instance.state;
  if (instance.reason) item.title = instance.reason;
  const state = document.createElement('strong');
  state.textContent = instance.state;
  const name = document.createElement('span');
  name.textContent = instance.name.replace(/^app-tier-instance-/, '#');
  item.append(state, name);
  if (instance.pid) item.append(` · pid ${instance.pid}`);
  return item;
}

function line(entry) {
  const item = document.createElement('li');
  if (entry.kind === 'error') item.className = 'error';
  const time = document.createElement('time');
  const date = new Date(entry.at_ms);
  time.dateTime = date.toISOString();
  time.textContent = date.toLocaleTimeString();
  item.append(time, entry.text);
  return item;
}
