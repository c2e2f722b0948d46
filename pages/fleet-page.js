// The page Fleet: what the fleet did, live, with its decisions.

import { Chart } from './chart.js';
import { chooseNear, drawDecisions, entry, startDecisions } from './decisions.js';
import { History, RANGES } from './history.js';
import { clock, duration, money, short } from './numbers.js';
import { startSession } from './session.js';

const STAGES = [
  ['total', 'black', ''],
  ['queue', 'blue', '7 3'],
  ['worker', 'vermilion', '2 3'],
  ['decode', 'orange', '10 3 2 3'],
  ['detect', 'sky', '5 2'],
  ['embed', 'green', ''],
  ['store', 'purple', '2 2'],
];
const STATES = [
  ['running', 'green'],
  ['pending', 'sky'],
  ['stopping', 'orange'],
  ['shutting down', 'vermilion'],
  ['stopped', 'purple'],
];
/** Rows of the table. */
const MAX_ROWS = 60;
/** What is shown beside "uploads" and "answers" is the average of so many seconds. */
const RATE_SECONDS = 10;

let percentile = 'p99';
let history = new History(RANGES[1]);
/** The bucket whose numbers are shown, as its time; null for the latest. */
let cursorAt = null;
let pinnedAt = null;
let timer = 0;

const column = (name) => (data, i) => data.columns[name][i];
const perSecond = (name) => (data, i) => data.columns[name][i] / Math.max(data.columns.seen_s[i], 0.5, data.at.length - 1 === i ? 0 : data.stepMs / 1000);
const perHour = (data, i) => (data.columns.seen_s[i] > 0 ? (data.columns.cost[i] / data.columns.seen_s[i]) * 3600 : null);

const charts = [
  {
    id: 'queue', title: 'Queue', unit: 'jobs, at most', kind: 'lines', whole: true,
    series: [
      { label: 'waiting', colour: 'blue', value: column('waiting') },
      { label: 'in flight', colour: 'orange', dash: '6 3', value: column('in_flight') },
    ],
  },
  {
    id: 'instances', title: 'Instances', unit: 'instances, on average', kind: 'stack', whole: true,
    series: [
      ...STATES.map(([label, colour]) => ({ label, colour, value: column(label.replace(' ', '_')) })),
      { label: 'wanted', colour: 'black', kind: 'lines', dash: '6 3', value: column('target') },
    ],
  },
  {
    id: 'traffic', title: 'Uploads and answers', unit: 'per second', kind: 'lines',
    series: [
      { label: 'uploads', colour: 'blue', dash: '6 3', value: perSecond('uploads') },
      { label: 'answers', colour: 'green', value: perSecond('answers') },
    ],
  },
  {
    id: 'latency', title: 'Time until the answer', unit: 'time, logarithmic', kind: 'lines', log: true, format: duration, tick: duration,
    series: STAGES.map(([label, colour, dash]) => ({ label, colour, dash, value: (data, i) => data.columns[`${label} ${percentile}`][i] || null })),
  },
  {
    id: 'cost', title: 'Cost', unit: 'per hour', kind: 'lines', format: (value) => (value === null ? '–' : money(value)), tick: money,
    series: [{ label: 'instances and disks', colour: 'purple', value: perHour }],
  },
  {
    id: 'trouble', title: 'Failures', unit: 'number per bar', kind: 'bars', whole: true, bands: 'fleet degraded',
    series: [
      { label: 'without a result', colour: 'orange', value: column('failures') },
      { label: 'refused', colour: 'sky', value: column('refusals') },
      { label: 'dead letters', colour: 'black', value: column('dead_letters') },
    ],
  },
].map((spec) => new Chart(spec, hover, (ms, reach) => chooseNear(ms, reach, history.view())));

const slider = document.getElementById('cursor');
const link = document.getElementById('link');

/** Adds a group of radio buttons, and calls `choose` with the index of the chosen one. */
function addChoices(group, name, texts, chosen, choose) {
  texts.forEach((text, index) => {
    const label = document.createElement('label');
    const input = document.createElement('input');
    Object.assign(input, { type: 'radio', name, value: text, checked: index === chosen });
    input.addEventListener('change', () => choose(index));
    label.append(input, text);
    group.append(label);
  });
}

function start() {
  document.getElementById('dashboard').hidden = false;
  document.getElementById('charts').append(...charts.map((chart) => chart.root));
  addChoices(document.getElementById('ranges'), 'range', RANGES.map(([text]) => text), 1, (index) => {
    history = new History(RANGES[index]);
    [cursorAt, pinnedAt] = [null, null];
    refresh();
  });
  const group = document.createElement('fieldset');
  group.className = 'choices';
  const legend = document.createElement('legend');
  legend.textContent = 'Percentile';
  group.append(legend);
  addChoices(group, 'percentile', ['p50', 'p90', 'p99'], 2, (index) => {
    percentile = ['p50', 'p90', 'p99'][index];
    draw();
  });
  document.querySelector('#chart-latency h2').after(group);
  slider.addEventListener('input', () => {
    const { at } = history.view().data;
    const index = Number(slider.value);
    pinnedAt = index >= at.length - 1 ? null : at[index];
    cursorAt = pinnedAt;
    draw();
  });
  document.getElementById('numbers-details').addEventListener('toggle', () => draw());
  startDecisions(draw);
  new ResizeObserver(() => draw()).observe(document.getElementById('charts'));
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) refresh();
  });
  refresh();
}

function hover(ms) {
  cursorAt = ms === null ? pinnedAt : ms;
  draw();
}

async function refresh() {
  clearTimeout(timer);
  const shown = history;
  try {
    await shown.update();
    if (shown !== history) return;
    link.textContent = 'live';
    draw();
  } catch (error) {
    if (shown !== history) return;
    link.textContent = error.message;
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, shown.pause);
}

function draw() {
  if (!history.page) return;
  const view = history.view();
  const { at, stepMs } = view.data;
  let cursor = at.length === 0 ? null : at.length - 1;
  if (cursorAt !== null && at.length > 0) {
    const found = at.findLastIndex((start) => start <= cursorAt);
    cursor = found < 0 ? 0 : found;
  }
  slider.max = Math.max(0, at.length - 1);
  slider.value = cursor ?? 0;
  const when = cursor === null ? 'no time' : clock(at[cursor], view.to);
  document.getElementById('cursor-time').textContent = when;
  slider.setAttribute('aria-valuetext', when);
  const chosen = drawDecisions(view);
  const decisions = view.decisions.map((decision) => decision.at_ms);
  for (const chart of charts) chart.draw({ ...view, decisions, cursor, chosen });
  showNow(view);
  if (document.getElementById('numbers-details').open) showTable(view, stepMs);
}

function showNow({ data }) {
  const { now, cost, since_ms: since } = history.page;
  const { columns, at } = data;
  const health = document.getElementById('health');
  const [text, kind] = healthOf(now);
  if (health.textContent !== text) health.textContent = text;
  health.className = kind;
  // The last bucket is not complete.
  const recent = at.map((_, i) => i).filter((i) => i < at.length - 1).slice(-Math.max(1, Math.round((RATE_SECONDS * 1000) / data.stepMs)));
  const rate = (name) => recent.reduce((sum, i) => sum + columns[name][i], 0) / Math.max(1, (recent.length * data.stepMs) / 1000);
  const total = (name) => columns[name].reduce((a, b) => a + b, 0);
  const timed = at.findLastIndex((_, i) => columns['total p50'][i] !== null);
  const [p50, p90, p99] = ['p50', 'p90', 'p99'].map((p) => duration(timed < 0 ? null : columns[`total ${p}`][timed]));
  const pace = now.cost_per_hour;
  const others = Object.entries(now.instances).filter(([state, count]) => count > 0 && !['running', 'terminated'].includes(state));
  const tiles = [
    ['waiting', short(now.waiting), `${short(now.uploads_waiting)} clients wait here`],
    ['in flight', short(now.in_flight), ''],
    ['running instances', short(now.instances.running), others.map(([state, count]) => `${count} ${state.replace('_', ' ')}`).join(', ') || `${now.target} wanted, at most ${now.max_instances}`],
    ['uploads a second', short(rate('uploads')), `${short(total('uploads'))} in this range`],
    ['answers a second', short(rate('answers')), `${short(total('answers'))} in this range`],
    ['last answers took', p50, `p50; p90 ${p90}, p99 ${p99}`],
    ['cost so far', money(cost), since > 0 ? `since ${clock(since)}` : ''],
    ['at this pace', `${money(pace)} an hour`, `${money(pace * 24)} a day, ${money(pace * 720)} in 30 days`],
    ['dead letters', short(total('dead_letters')), 'given up in this range'],
  ];
  const list = document.getElementById('now');
  list.replaceChildren(...tiles.map(([name, value, detail]) => {
    const group = entry(name, value);
    if (detail) {
      const more = document.createElement('dd');
      more.className = 'detail';
      more.textContent = detail;
      group.append(more);
    }
    return group;
  }));
}

function healthOf(now) {
  if (now.shortage) return [`✕ Uploads are refused: ${now.shortage}`, 'bad'];
  if (now.degraded) return [`⚠ The fleet is degraded: ${now.degraded}`, 'bad'];
  return now.at_ms > 0 ? ['✓ Ready', 'good'] : ['… The fleet was not seen yet', ''];
}

/** Shows the newest buckets as a table. */
function showTable({ data, to }, stepMs) {
  const { columns, at } = data;
  const names = [
    ['waiting', 'waiting', short], ['in flight', 'in_flight', short],
    ...STATES.map(([label]) => [label, label.replace(' ', '_'), short]), ['wanted', 'target', short],
    ['uploads', 'uploads', short], ['answers', 'answers', short],
    ['failures', 'failures', short], ['refused', 'refusals', short], ['dead letters', 'dead_letters', short],
    ...STAGES.flatMap(([stage]) => ['p50', 'p90', 'p99'].map((p) => [`${stage} ${p}`, `${stage} ${p}`, duration])),
    ['cost', 'cost', money],
  ];
  const table = document.getElementById('numbers-table');
  const caption = document.createElement('caption');
  caption.textContent = `Newest first; each row is ${duration(stepMs)}, and there are at most ${MAX_ROWS}.`;
  const [head, body] = ['thead', 'tbody'].map((tag) => document.createElement(tag));
  head.append(tableRow('th', ['time', ...names.map(([name]) => name)], 'col'));
  for (let i = at.length - 1; i >= Math.max(0, at.length - MAX_ROWS); i -= 1) {
    body.append(tableRow('td', [clock(at[i], to), ...names.map(([, name, format]) => format(columns[name][i]))], 'row'));
  }
  table.replaceChildren(caption, head, body);
}

function tableRow(tag, texts, scope) {
  const row = document.createElement('tr');
  row.append(...texts.map((text, index) => {
    const cell = document.createElement(index === 0 ? 'th' : tag);
    if (cell.tagName === 'TH') cell.scope = index === 0 && scope === 'row' ? 'row' : 'col';
    cell.textContent = text;
    return cell;
  }));
  return row;
}

const role = await startSession();
if (role === 'read' || role === 'admin') start();
else if (role !== null) document.getElementById('not-allowed').hidden = false;
