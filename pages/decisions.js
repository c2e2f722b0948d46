// The decisions on their time axis, and the reason and numbers of those that are chosen.

import { drawTimeAxis } from './chart.js';
import { key } from './history.js';
import { clock, duration, short } from './numbers.js';

/** Width of a mark, in pixels. Decisions that would overlap share one. */
const MARK = 30;
/** The symbols of the kinds of decision. */
const SYMBOLS = { launch: '▲', start: '△', stop: '▽', terminate: '✕', lost: '!', degraded: '⚠', recovered: '✓' };

const strip = document.getElementById('strip');
const axis = document.getElementById('strip-axis');
const empty = document.getElementById('strip-empty');
const panel = document.getElementById('decision');

/** The keys of the chosen decisions. */
let chosen = [];
let groups = [];
let onChange = () => {};

/** Prepares the keyboard, and calls `change` when other decisions are chosen. */
export function startDecisions(change) {
  onChange = change;
  strip.addEventListener('keydown', (event) => {
    const marks = [...strip.children];
    const at = marks.indexOf(document.activeElement);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: marks.length - 1 }[event.key];
    if (at < 0 || to === undefined || !marks[to]) return;
    event.preventDefault();
    marks[to].focus();
    makeReachable(marks[to]);
  });
}

/** Only one mark is reached by Tab; the others by arrow keys. */
function makeReachable(mark) {
  for (const other of strip.children) other.tabIndex = other === mark ? 0 : -1;
}

/** Draws the decisions of a view, and returns the times of the chosen ones. */
export function drawDecisions({ decisions, from, to }) {
  const width = strip.clientWidth;
  axis.setAttribute('viewBox', `0 0 ${width} 20`);
  axis.replaceChildren();
  drawTimeAxis(axis, from, to, 0, width, 0);
  // Cells of the time itself, so that a mark keeps its decisions while it moves. After a change of size they are others:
  // a mark is known by its first decision.
  const cell = ((to - from) * MARK) / Math.max(width, MARK);
  const byCell = Map.groupBy(decisions, (decision) => Math.floor(decision.at_ms / cell));
  groups = [...byCell].map(([number, members]) => ({ first: key(members[0]), members, at: (number + 0.5) * cell }));
  const focused = strip.contains(document.activeElement) ? document.activeElement.dataset.first : null;
  const old = new Map([...strip.children].map((mark) => [mark.dataset.first, mark]));
  for (const [first, mark] of old) if (!groups.some((group) => group.first === first)) mark.remove();
  groups.forEach((group, index) => {
    const mark = old.get(group.first) ?? newMark(group.first);
    label(mark, group);
    mark.style.left = `${Math.min(Math.max(((group.at - from) / (to - from)) * width, 14), width - 14)}px`;
    if (strip.children[index] !== mark) strip.insertBefore(mark, strip.children[index] ?? null);
  });
  if (focused && !strip.contains(document.activeElement)) {
    const index = groups.findIndex(({ members }) => members.some((decision) => key(decision) === focused));
    strip.children[index]?.focus();
  }
  if (strip.children.length > 0 && ![...strip.children].some((mark) => mark.tabIndex === 0)) makeReachable(strip.lastElementChild);
  empty.textContent = groups.length > 0 ? '' : 'No decision was made in this range.';
  strip.hidden = groups.length === 0;
  const times = decisions.filter((decision) => chosen.includes(key(decision))).map((decision) => decision.at_ms);
  return new Set(times);
}

function newMark(first) {
  const mark = document.createElement('button');
  mark.type = 'button';
  mark.dataset.first = first;
  mark.tabIndex = -1;
  mark.addEventListener('click', () => {
    makeReachable(mark);
    choose(groups.find((group) => group.first === first).members);
  });
  return mark;
}

function label(mark, { members }) {
  const first = members[0];
  const text = members.length > 1 ? String(members.length) : SYMBOLS[first.kind] ?? '•';
  if (mark.textContent !== text) mark.textContent = text;
  const kinds = [...new Set(members.map((decision) => decision.kind))].join(', ');
  const what = members.length > 1 ? `${members.length} decisions from ${clock(first.at_ms)} on: ${kinds}` : `${first.kind} at ${clock(first.at_ms)}`;
  if (mark.getAttribute('aria-label') !== what) {
    mark.setAttribute('aria-label', what);
    mark.title = what;
  }
  mark.setAttribute('aria-pressed', String(members.some((decision) => chosen.includes(key(decision)))));
}

/** Chooses the decisions nearest to a time, if one is within `reach` of it. */
export function chooseNear(ms, reach, { decisions }) {
  const near = decisions.filter((decision) => Math.abs(decision.at_ms - ms) <= reach);
  if (near.length > 0) choose(near);
}

/** Shows decisions, or hides them if they are shown already, even if there are more by now. */
function choose(decisions) {
  const keys = decisions.map(key);
  const shown = chosen.length > 0 && chosen.every((one) => keys.includes(one));
  chosen = shown ? [] : keys;
  panel.hidden = chosen.length === 0;
  panel.replaceChildren(...(chosen.length > 0 ? decisions.flatMap(describe) : []));
  onChange();
}

function describe(decision) {
  const title = document.createElement('h3');
  const many = decision.count === 1 ? '' : ` of ${decision.count}`;
  title.textContent = `${decision.kind[0].toUpperCase()}${decision.kind.slice(1)}${many} at ${clock(decision.at_ms)}`;
  const reason = document.createElement('p');
  reason.textContent = decision.reason;
  const numbers = document.createElement('dl');
  numbers.append(...inputs(decision).map(([name, value, wide]) => entry(name, value, wide)));
  return [title, reason, numbers];
}

function inputs({ inputs: on, instances, count }) {
  const seconds = (time) => duration(time.secs * 1000 + time.nanos / 1e6);
  const rows = [
    ['demand', short(on.demand)],
    ['waiting', short(on.depth.visible + on.depth.delayed)],
    ['in flight', short(on.depth.in_flight)],
    ['uploads waiting', short(on.hint)],
    ['wanted', `${on.target} by ${on.policy}`],
    ['at most', short(on.cap)],
    ['running', short(on.counts.running)],
    ['pending', short(on.counts.pending)],
    ['requested', short(on.launching + on.starting)],
    ['stopping', short(on.counts.stopping)],
    ['stopped', short(on.counts.stopped)],
    ['boot, new', seconds(on.learned.boot_cold)],
    ['boot, stopped', seconds(on.learned.boot_warm)],
    ['one job', seconds(on.learned.service)],
  ];
  if (on.scheduled > 0) rows.push(['by the schedule', short(on.scheduled)]);
  const more = count > instances.length && instances.length > 0 ? ` and ${count - instances.length} more` : '';
  if (instances.length > 0) rows.push(['instances', instances.join(', ') + more, true]);
  return rows;
}

/** Returns a name with its value, as a part of a list of such. */
export function entry(name, value, wide = false) {
  const group = document.createElement('div');
  if (wide) group.className = 'wide';
  const [term, text] = ['dt', 'dd'].map((tag) => document.createElement(tag));
  term.textContent = name;
  text.textContent = value;
  group.append(term, text);
  return group;
}
