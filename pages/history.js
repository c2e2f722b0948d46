// Fetches the history and keeps the part that is shown up to date.

import { call } from './api.js';

/** The ranges that can be chosen: their text, that of the server which has them, and their length in seconds. */
export const RANGES = [
  ['1 min', '15m', 60],
  ['15 min', '15m', 900],
  ['3 h', '3h', 10_800],
  ['24 h', '24h', 86_400],
  ['14 days', '14d', 1_209_600],
];
/** Longest time between two requests, in milliseconds. */
const MAX_PAUSE = 30_000;

/** The history of one range. */
export class History {
  constructor([, range, seconds]) {
    this.range = range;
    this.lengthMs = seconds * 1000;
    this.columns = null;
    this.decisions = [];
  }

  /** Returns the time until the next request, in milliseconds: half a bucket, so that the last one moves. */
  get pause() {
    return Math.min(MAX_PAUSE, Math.max(1000, (this.page?.step_s ?? 0) * 500));
  }

  /** Fetches what has changed since the last time. Throws an ApiError. */
  async update() {
    const last = this.columns?.at_s.at(-1);
    // The last bucket may have changed, and a decision gets its instances later.
    const from = last === undefined ? '' : `&from=${last}`;
    const page = await call(`/v1/fleet/history?range=${this.range}${from}`);
    const restarted = this.page && page.since_ms !== this.page.since_ms;
    if (restarted && from) {
      this.columns = null;
      await this.update();
      return;
    }
    this.page = page;
    if (this.columns === null) this.columns = flat(page.points);
    else append(this.columns, flat(page.points), last);
    const oldest = page.now_ms - page.range_s * 1000;
    forget(this.columns, oldest / 1000);
    const fresh = new Set(page.decisions.map(key));
    const kept = this.decisions.filter((decision) => decision.at_ms >= oldest && !fresh.has(key(decision)));
    this.decisions = from ? [...kept, ...page.decisions] : page.decisions;
  }

  /** Returns what is to be drawn. */
  view() {
    const to = this.page.now_ms;
    const from = to - this.lengthMs;
    const first = this.columns.at_s.findIndex((at) => at * 1000 >= from - this.page.step_s * 1000);
    const start = first < 0 ? this.columns.at_s.length : first;
    const columns = Object.fromEntries(Object.entries(this.columns).map(([name, column]) => [name, column.slice(start)]));
    const data = { columns, at: columns.at_s.map((at) => at * 1000), stepMs: this.page.step_s * 1000 };
    return { data, from, to, decisions: this.decisions.filter((decision) => decision.at_ms >= from) };
  }
}

/** Returns the identity of a decision. */
export function key(decision) {
  return `${decision.at_ms}-${decision.number}`;
}

function flat(points) {
  const { latency, ...columns } = points;
  for (const { stage, ...percentiles } of latency) {
    for (const [name, column] of Object.entries(percentiles)) columns[`${stage} ${name}`] = column;
  }
  return columns;
}

/** Replaces the buckets from `last` on. */
function append(columns, fresh, last) {
  const at = columns.at_s.lastIndexOf(last);
  for (const [name, column] of Object.entries(columns)) column.splice(at, column.length, ...fresh[name]);
}

function forget(columns, before) {
  const first = columns.at_s.findIndex((at) => at >= before);
  if (first > 0) for (const column of Object.values(columns)) column.splice(0, first);
}
