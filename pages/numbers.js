// Numbers, times and axes as text.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Distances between marks of a time axis, in milliseconds. */
const TIME_STEPS = [
  5000, 10_000, 15_000, 20_000, 30_000, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY,
];

/** Shorter distances, for what ends after seconds. */
const SHORT_STEPS = [50, 100, 200, 500, 1000, 2000];

/** Returns a number with about three digits. */
export function short(value) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (size >= 1e6) return `${trimmed(value / 1e6)} M`;
  if (size >= 1e4) return `${trimmed(value / 1e3)} k`;
  return trimmed(value);
}

function trimmed(value) {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  return String(Number(value.toPrecision(size < 1 ? 2 : 3)));
}

/** Returns milliseconds as a time. */
export function duration(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms >= 120_000) return `${short(ms / MINUTE)} min`;
  return ms >= 1000 ? `${short(ms / 1000)} s` : `${short(ms)} ms`;
}

/** Returns an amount of money; the currency is that of the prices in the settings. */
export function money(value) {
  if (value === 0) return '0';
  return Math.abs(value) >= 1 ? value.toFixed(2) : String(Number(value.toPrecision(2)));
}

/** Returns the time of day, with the date if it is not of today. */
export function clock(ms, nowMs = Date.now()) {
  const [date, today] = [new Date(ms), new Date(nowMs)];
  const time = date.toLocaleTimeString([], { hourCycle: 'h23' });
  return date.toDateString() === today.toDateString() ? time : `${day(date)} ${time}`;
}

function day(date) {
  return date.toLocaleDateString([], { day: 'numeric', month: 'short' });
}

/** Returns marks of a time axis, at round local times: pairs of a time and a text. */
export function timeTicks(from, to, atMost) {
  const step = TIME_STEPS.find((candidate) => (to - from) / candidate <= atMost) ?? TIME_STEPS.at(-1);
  const offset = new Date(to).getTimezoneOffset() * MINUTE;
  const options = step < MINUTE ? { hour: '2-digit', minute: '2-digit', second: '2-digit' } : { hour: '2-digit', minute: '2-digit' };
  const ticks = [];
  for (let at = Math.ceil((from - offset) / step) * step + offset; at <= to; at += step) {
    const date = new Date(at);
    const text = step >= DAY ? day(date) : date.toLocaleTimeString([], { ...options, hourCycle: 'h23' });
    ticks.push([at, text]);
  }
  return ticks;
}

/** Returns marks of an axis of the time since a start, as {@link timeTicks} does for the time of day. */
export function elapsedTicks(from, to, atMost) {
  const step = [...SHORT_STEPS, ...TIME_STEPS].find((candidate) => (to - from) / candidate <= atMost) ?? TIME_STEPS.at(-1);
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push([at, elapsed(at, to / 1000)]);
  return ticks;
}

/** Returns milliseconds since a start, of a run that ends after `endS` seconds, as text. */
export function elapsed(ms, endS) {
  if (endS < 120) return `${Number((ms / 1000).toFixed(endS < 5 ? 2 : 1))} s`;
  const two = (number) => String(Math.floor(number)).padStart(2, '0');
  const days = Math.floor(ms / DAY);
  const time = `${two((ms % DAY) / HOUR)}:${two((ms % HOUR) / MINUTE)}`;
  if (endS >= 86_400) return `${days} d ${time}`;
  return endS < 7200 ? `${time}:${two((ms % MINUTE) / 1000)}` : time;
}

/** Returns marks from 0 to at least `most`, at round numbers. */
export function valueTicks(most, whole) {
  const rough = Math.max(most, whole ? 1 : 1e-9) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power;
  if (whole) step = Math.max(1, step);
  const count = Math.max(1, Math.ceil((most / step) * 0.999));
  return Array.from({ length: count + 1 }, (_, n) => n * step);
}

/** Returns marks of a logarithmic axis that contains both numbers: powers of ten. */
export function logTicks(least, most) {
  const first = Math.floor(Math.log10(least));
  const last = Math.max(first + 1, Math.ceil(Math.log10(most)));
  return Array.from({ length: last - first + 1 }, (_, n) => 10 ** (first + n));
}
