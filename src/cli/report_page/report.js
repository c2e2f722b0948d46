// Shows the data of the page: a table of the runs, their cost against waiting, and the chosen ones over time.

import { Chart, svg } from './chart.js';
import { elapsed, elapsedTicks, logTicks, short, valueTicks } from './numbers.js';

const data = JSON.parse(document.getElementById('data').textContent);
const COLOURS = ['blue', 'vermilion', 'green', 'purple', 'orange', 'sky', 'black'];
const DASHES = ['', '7 3', '2 3', '9 3 2 3'];
/** Runs that are shown at first. */
const SHOWN = 2;
/** Most points of a chart; longer histories are drawn in wider intervals. */
const POINTS = 300;
const MARGIN = { top: 18, right: 14, bottom: 34, left: 52 };
const element = (id) => document.getElementById(id);

const runs = data.runs.map((run, index) => ({ ...run, index, colour: COLOURS[index % COLOURS.length], dash: DASHES[index % DASHES.length] }));
const shown = new Set(runs.slice(0, SHOWN));
const end = Math.max(...runs.map((run) => run.timeline.end_s), 0.001) * 1000;
let view = { from: 0, to: end };
let cursor = 0;
let sortBy = { column: null, down: false };

element('title').textContent = data.title;
document.title = `rollcall ${data.command}: ${data.title}`;
element('notes').append(...data.notes.map((note) => made('p', note)));
element('facts-section').hidden = data.facts.length === 0;
element('facts').append(...data.facts.map(([name, value]) => {
  const row = made('tr');
  const head = made('th', name);
  head.scope = 'row';
  row.append(head, made('td', value));
  return row;
}));

function made(name, text = '') {
  const node = document.createElement(name);
  node.textContent = text;
  return node;
}

// The table.

function drawTable() {
  const head = made('tr');
  const first = made('th', 'run');
  first.scope = 'col';
  head.append(first, ...data.columns.map((column, index) => {
    const cell = made('th');
    cell.scope = 'col';
    const sorted = sortBy.column === index;
    cell.setAttribute('aria-sort', sorted ? (sortBy.down ? 'descending' : 'ascending') : 'none');
    const button = made('button', `${column.name} ${sorted ? (sortBy.down ? '▼' : '▲') : ''}`);
    button.type = 'button';
    if (column.unit) button.append(made('small', ` ${column.unit}`));
    button.addEventListener('click', () => {
      sortBy = { column: index, down: sorted && !sortBy.down };
      drawTable();
      element('runs').querySelectorAll('thead button')[index].focus();
    });
    cell.append(button);
    return cell;
  }));
  const value = (run) => run.figures[sortBy.column] ?? Infinity;
  const order = sortBy.column === null ? runs : [...runs].sort((a, b) => (sortBy.down ? value(b) - value(a) : value(a) - value(b)));
  const top = made('thead');
  top.append(head);
  const body = made('tbody');
  body.append(...order.map(tableRow));
  element('runs').replaceChildren(top, body);
}

function tableRow(run) {
  const row = made('tr');
  const head = made('th');
  head.scope = 'row';
  const label = made('label');
  const box = made('input');
  box.type = 'checkbox';
  box.checked = shown.has(run);
  box.addEventListener('change', () => {
    if (box.checked) shown.add(run);
    else shown.delete(run);
    draw();
  });
  label.append(box, swatch(run), run.name);
  head.append(label);
  row.append(head, ...run.figures.map((figure) => made('td', short(figure))));
  return row;
}

function swatch(run) {
  const mark = svg('svg', { viewBox: '0 0 24 10', width: 24, height: 10, 'aria-hidden': 'true', class: `c-${run.colour}` });
  mark.append(svg('path', { class: 'line', d: 'M1 5H23', 'stroke-dasharray': run.dash }));
  return mark;
}

// Plots whose axes are not time.

/** Draws axes, and returns the functions from values to places. */
function axes(plot, [xTicks, xScale, xText, xUnit], [yTicks, yUnit]) {
  const [width, height] = [Math.max(260, plot.clientWidth), plot.clientHeight || 240];
  plot.setAttribute('viewBox', `0 0 ${width} ${height}`);
  plot.replaceChildren();
  const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
  const [low, high] = [xScale(xTicks[0]), xScale(xTicks.at(-1))];
  const x = (value) => left + ((xScale(value) - low) / (high - low || 1)) * (right - left);
  const y = (value) => bottom - (value / yTicks.at(-1)) * (bottom - top);
  for (const tick of yTicks) {
    plot.append(svg('line', { class: 'grid', x1: left, x2: right, y1: y(tick), y2: y(tick) }));
    plot.append(svg('text', { x: left - 6, y: y(tick) + 4, 'text-anchor': 'end' }, short(tick)));
  }
  for (const tick of xTicks) {
    plot.append(svg('line', { class: 'axis', x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 4 }));
    plot.append(svg('text', { x: x(tick), y: bottom + 16, 'text-anchor': 'middle' }, xText(tick)));
  }
  plot.append(svg('line', { class: 'axis', x1: left, x2: right, y1: bottom, y2: bottom }));
  plot.append(svg('text', { x: 0, y: 10 }, yUnit), svg('text', { x: (left + right) / 2, y: height - 3, 'text-anchor': 'middle' }, xUnit));
  return { x, y, right, bottom };
}

function drawScatter() {
  const points = runs.filter((run) => run.point).map((run) => ({ run, cost: run.point[0], wait: run.point[1] }));
  element('cost').hidden = points.length < 2;
  if (points.length < 2) return;
  const plot = element('scatter');
  const most = (key) => Math.max(...points.map((point) => point[key]));
  const { x, y, right } = axes(plot, [valueTicks(most('cost') * 1.05), Number, short, 'cost'], [valueTicks(most('wait') * 1.05), 'p99 of waiting, s']);
  const better = [...points].sort((a, b) => a.cost - b.cost || a.wait - b.wait);
  let least = Infinity;
  const frontier = better.filter((point) => point.wait < least && ((least = point.wait), true));
  plot.append(svg('path', { class: 'frontier', d: frontier.map((p, n) => `${n === 0 ? 'M' : 'L'}${x(p.cost)} ${y(p.wait)}`).join('') }));
  const taken = [];
  for (const { run, cost, wait } of better) {
    const group = svg('g', { class: `c-${run.colour}` });
    const late = x(cost) > right - 150;
    group.append(svg('circle', { class: 'dot', cx: x(cost), cy: y(wait), r: shown.has(run) ? 7 : 4 }));
    group.append(svg('title', {}, `${run.name}: cost ${short(cost)}, p99 ${short(wait)} s`));
    let height = y(wait) + 4;
    while (taken.some(([a, b]) => Math.abs(a - x(cost)) < 150 && Math.abs(b - height) < 12)) height -= 12;
    taken.push([x(cost), height]);
    plot.append(group, svg('text', { x: x(cost) + (late ? -10 : 10), y: height, 'text-anchor': late ? 'end' : 'start' }, run.name));
  }
}

function drawHistogram() {
  const chosen = runs.filter((run) => shown.has(run) && run.timeline.classes.length > 0);
  const all = chosen.flatMap((run) => run.timeline.classes);
  const plot = element('histogram');
  element('histogram-legend').replaceChildren(...chosen.map((run) => {
    const item = made('li');
    item.append(swatch(run), run.name);
    return item;
  }));
  if (all.length === 0) {
    plot.replaceChildren();
    return;
  }
  const limits = all.map(([limit]) => limit);
  const ticks = logTicks(Math.min(...limits) / 1.26, Math.max(...limits));
  const total = (run) => run.timeline.classes.reduce((sum, [, many]) => sum + many, 0);
  const share = (run, many) => (100 * many) / total(run);
  const most = Math.max(...chosen.flatMap((run) => run.timeline.classes.map(([, many]) => share(run, many))));
  const { x, y, bottom } = axes(plot, [ticks, Math.log10, (s) => (s >= 1 ? `${short(s)} s` : `${short(s * 1000)} ms`), 'time until the response'], [valueTicks(most), '% of the requests']);
  for (const run of chosen) {
    const lower = (limit) => limit / 10 ** 0.1;
    let path = '';
    for (const [limit, many] of run.timeline.classes) {
      const [a, b] = [x(Math.max(ticks[0], lower(limit))), x(limit)];
      path += `M${a.toFixed(1)} ${bottom}V${y(share(run, many)).toFixed(1)}H${b.toFixed(1)}V${bottom}`;
    }
    plot.append(svg('path', { class: `line c-${run.colour}`, d: path, 'stroke-dasharray': run.dash }));
  }
  const slowest = chosen.map((run) => `${run.name}: most in the class up to ${short(run.timeline.classes.reduce((a, b) => (b[1] > a[1] ? b : a))[0])} s`);
  plot.append(svg('title', {}, slowest.join('; ')));
}

// The runs over time.

const column = (name, factor = 1) => (seen, i) => (seen.columns[name][i] === null ? null : seen.columns[name][i] * factor);
const CHARTS = [
  { id: 'queue', title: 'Queue', unit: 'jobs', kind: 'lines', whole: true, series: [
    { label: 'waiting', colour: 'vermilion', value: column('waiting') },
    { label: 'in flight', colour: 'blue', dash: '7 3', value: column('in_flight') },
  ] },
  { id: 'instances', title: 'Instances', unit: 'instances', kind: 'stack', whole: true, series: [
    { label: 'running', colour: 'green', value: column('running') },
    { label: 'pending', colour: 'orange', value: column('pending') },
    { label: 'stopping', colour: 'purple', value: column('stopping') },
    { label: 'stopped', colour: 'sky', value: column('stopped') },
  ] },
  { id: 'rate', title: 'Requests', unit: 'per second', kind: 'lines', series: [
    { label: 'sent', colour: 'blue', dash: '7 3', value: column('sent') },
    { label: 'answered', colour: 'green', value: column('answered') },
    { label: 'failed', colour: 'vermilion', dash: '2 3', value: column('failed') },
  ] },
  { id: 'latency', title: 'Latency by when the request was sent', unit: 's', kind: 'lines', series: [
    { label: 'p50', colour: 'blue', value: column('p50') },
    { label: 'p99', colour: 'orange', dash: '7 3', value: column('p99') },
    { label: 'longest', colour: 'vermilion', dash: '2 3', value: column('longest') },
  ] },
];
const RATES = ['sent', 'answered', 'failed'];
const STATES = ['pending', 'running', 'stopping', 'stopped'];
const charts = new Map();

/** Returns the part of a run that is in view, in at most so many intervals as can be drawn. */
function part(run) {
  const { step_s: step, waiting } = run.timeline;
  const first = Math.max(0, Math.floor(view.from / 1000 / step));
  const last = Math.min(waiting.length, Math.ceil(view.to / 1000 / step));
  const each = Math.max(1, Math.ceil((last - first) / POINTS));
  const at = [];
  const columns = { degraded: [] };
  for (let from = first; from < last; from += each) {
    at.push(from * step * 1000);
    columns.degraded.push(0);
  }
  const { pending, running } = run.timeline;
  // States of one moment, so that their sum is not more than there were: when most were pending or running.
  const busiest = at.map((_, n) => {
    let best = first + n * each;
    for (let i = best; i < Math.min(last, first + (n + 1) * each); i += 1) {
      if (pending[i] + running[i] > pending[best] + running[best]) best = i;
    }
    return best;
  });
  for (const [name, values] of Object.entries(run.timeline)) {
    if (!Array.isArray(values) || name === 'classes') continue;
    columns[name] = at.map((_, n) => {
      if (STATES.includes(name)) return values[busiest[n]];
      const slice = values.slice(first + n * each, Math.min(last, first + (n + 1) * each)).filter((value) => value !== null);
      if (slice.length === 0) return null;
      if (RATES.includes(name)) return slice.reduce((a, b) => a + b, 0) / (each * step);
      return Math.max(...slice);
    });
  }
  return { at, columns, stepMs: each * step * 1000 };
}

function drawTimelines() {
  const chosen = runs.filter((run) => shown.has(run));
  const parts = new Map(chosen.map((run) => [run, part(run)]));
  // The axes of all runs are the same, so that they can be compared.
  const most = CHARTS.map((spec) => Math.max(0, ...[...parts.values()].flatMap((seen) => spec.kind === 'stack'
    ? seen.at.map((_, i) => spec.series.reduce((sum, series) => sum + (series.value(seen, i) ?? 0), 0))
    : spec.series.flatMap((series) => seen.at.map((_, i) => series.value(seen, i) ?? 0)))));
  element('timelines').replaceChildren(...chosen.map((run) => {
    if (!charts.has(run)) {
      const section = made('section');
      section.setAttribute('aria-label', run.name);
      const title = made('h3', run.name);
      const drawn = CHARTS.map((spec) => new Chart({ ...spec, id: `${spec.id}-${run.index}` }, moveTo, moveTo));
      section.append(title, ...drawn.map((chart) => chart.root));
      charts.set(run, { section, drawn });
    }
    return charts.get(run).section;
  }));
  for (const run of chosen) {
    const seen = parts.get(run);
    const index = seen.at.findLastIndex((at) => at <= cursor);
    charts.get(run).drawn.forEach((chart, n) => {
      chart.draw({ data: seen, ...view, cursor: index < 0 ? null : index, decisions: [], chosen: new Set(), most: most[n], ticks: elapsedTicks });
    });
  }
  element('cursor').max = Math.round(end);
  element('cursor').value = Math.round(cursor);
  element('cursor-time').textContent = elapsed(cursor, end / 1000);
}

function moveTo(at) {
  if (at === null) return;
  cursor = Math.min(view.to, Math.max(view.from, at));
  drawTimelines();
}

/** Shows another part of the time, within the run. */
function look(from, to) {
  const length = Math.min(end, Math.max(to - from, end / 500));
  const start = Math.min(Math.max(0, from), end - length);
  view = { from: start, to: start + length };
  cursor = Math.min(view.to, Math.max(view.from, cursor));
  drawTimelines();
}

function zoom(factor, around = cursor) {
  look(around - (around - view.from) * factor, around + (view.to - around) * factor);
}

element('closer').addEventListener('click', () => zoom(0.5));
element('wider').addEventListener('click', () => zoom(2));
element('earlier').addEventListener('click', () => look(view.from - (view.to - view.from) / 2, view.to - (view.to - view.from) / 2));
element('later').addEventListener('click', () => look(view.from + (view.to - view.from) / 2, view.to + (view.to - view.from) / 2));
element('all').addEventListener('click', () => look(0, end));
element('cursor').addEventListener('input', () => moveTo(Number(element('cursor').value)));
element('timelines').addEventListener('wheel', (event) => {
  if (!event.ctrlKey) return; // otherwise the page is scrolled
  event.preventDefault();
  zoom(event.deltaY > 0 ? 1.25 : 0.8);
}, { passive: false });

function draw() {
  drawScatter();
  drawHistogram();
  drawTimelines();
}

drawTable();
draw();
new ResizeObserver(draw).observe(element('report'));
