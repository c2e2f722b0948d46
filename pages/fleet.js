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

/** From so many seconds on, a time is without end. */
const ENDLESS = 1e8;

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
  const rows = view.adaptive ? learned(view) : [];
  document.getElementById('learned').hidden = rows.length === 0;
  document.querySelector('#learned tbody').replaceChildren(...rows.map(row));
  const terminated = view.instances.filter((i) => i.state === 'terminated').slice(-MAX_TERMINATED);
  const others = view.instances.filter((i) => i.state !== 'terminated');
  document.getElementById('instances').replaceChildren(...[...others, ...terminated].map(tile));
  document.getElementById('no-instances').hidden = others.length > 0;
  document.getElementById('events').replaceChildren(...view.events.slice(-MAX_ENTRIES).reverse().map(line));
}

/** Returns what has been learned, and what follows from it for the size of the fleet: pairs of a name and a text. */
function learned(view) {
  const now = view.adaptive;
  const first = now.base === 1 ? 'the first one' : `the first ${now.base}`;
  const longer = now.base > 0 && now.base_stay_s > now.stay_s ? `, ${first} for ${time(now.base_stay_s)}` : '';
  const rows = [
    ['wanted now', `${view.target} for ${view.demand === 1 ? '1 job' : `${view.demand} jobs`}`],
    ['stay now without a job', `${now.staying}`],
    ['stay after they were needed', `for ${time(now.stay_s)}${longer}`],
    ['stopped ones kept now', `${now.kept}, for ${time(now.keep_s)} after they were needed`],
    now.within_s === undefined
      ? ['a second of waiting is worth', `${now.wait_value} s of an instance`]
      : ['jobs are planned to begin within', `${now.within_s.toFixed(1)} s`],
    ['learned from', `${now.arrivals} arrivals, ${now.comparisons} comparisons`],
  ];
  if (now.late_share !== undefined) rows.push(['waited for too long', `${(100 * now.late_share).toFixed(1)} % of the jobs`]);
  return rows;
}

/** Returns a duration in seconds as text. */
function time(seconds) {
  if (seconds >= ENDLESS) return 'ever';
  if (seconds >= 7200) return `${(seconds / 3600).toFixed(1)} h`;
  return seconds >= 120 ? `${(seconds / 60).toFixed(1)} min` : `${seconds.toFixed(0)} s`;
}

function row([name, value]) {
  const item = document.createElement('tr');
  const head = document.createElement('th');
  head.scope = 'row';
  head.textContent = name;
  const cell = document.createElement('td');
  cell.textContent = value;
  item.append(head, cell);
  return item;
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
