// Shows the fleet live, by server-sent events, or by polling if they are not available.

import { call } from './api.js';

/** Interval between polls, in milliseconds. */
const POLL_INTERVAL = 2000;
/** Time until events are tried again, in milliseconds. */
const RETRY_AFTER = 30000;
/** Number of activities that are shown. */
const MAX_ENTRIES = 12;
/** Number of terminated instances that are shown. */
const MAX_TERMINATED = 4;

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
    // Rejected (too many streams): EventSource does not reconnect by itself.
    if (events.readyState === EventSource.CLOSED) setTimeout(followFleet, RETRY_AFTER);
  });
}

function startPolling() {
  if (timer !== null) return;
  poll();
  timer = setInterval(poll, POLL_INTERVAL);
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
  const { degraded } = view;
  document.getElementById('degraded').hidden = !degraded;
  if (degraded) {
    const next = degraded.next_attempt_ms ? new Date(degraded.next_attempt_ms).toLocaleTimeString() : null;
    const underWay = degraded.refused ? 'One is being requested.' : 'One is booting.';
    const when = next ? `The next one is tried at ${next}.` : underWay;
    const what = degraded.refused
      ? `${degraded.refused} requests for instances in a row were refused`
      : `${degraded.failed_boots} boots in a row failed`;
    text('degraded', `${what}, the last because ${degraded.reason}. ${when}`);
  }
  const terminated = view.instances.filter((i) => i.state === 'terminated').slice(-MAX_TERMINATED);
  const others = view.instances.filter((i) => i.state !== 'terminated');
  document.getElementById('instances').replaceChildren(...[...others, ...terminated].map(tile));
  document.getElementById('no-instances').hidden = others.length > 0;
  document.getElementById('events').replaceChildren(...view.events.slice(-MAX_ENTRIES).reverse().map(line));
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
  if (entry.kind === 'error' || entry.kind === 'degraded') item.className = 'error';
  const time = document.createElement('time');
  const date = new Date(entry.at_ms);
  time.dateTime = date.toISOString();
  time.textContent = date.toLocaleTimeString();
  item.append(time, entry.text);
  return item;
}
