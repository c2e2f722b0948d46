// Draws one chart of the history as SVG: lines, stacked areas, or bars over time.

import { logTicks, short, timeTicks, valueTicks } from './numbers.js';

const SVG = 'http://www.w3.org/2000/svg';
const HEIGHT = 170;
const MARGIN = { top: 18, right: 8, bottom: 20, left: 46 };
/** Room for the text of a mark of the time axis, in pixels. */
const TICK_WIDTH = 74;
/** A click at most so far from a decision's line chooses it, in pixels. */
const REACH = 12;

/** Creates an element of SVG. */
export function svg(name, attributes = {}, text = '') {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/** Draws the marks of a time axis at the height `y`, of which `ticks` returns times and texts. */
export function drawTimeAxis(target, from, to, left, right, y, ticks = timeTicks) {
  const scale = (right - left) / (to - from);
  for (const [at, text] of ticks(from, to, Math.max(1, Math.floor((right - left) / TICK_WIDTH)))) {
    const x = left + (at - from) * scale;
    if (x < left + 16 || x > right - 16) continue;
    target.append(svg('line', { class: 'axis', x1: x, x2: x, y1: y, y2: y + 4 }), svg('text', { x, y: y + 16, 'text-anchor': 'middle' }, text));
  }
}

/**
 * A chart. `spec` has `id`, `title`, `unit`, `kind` (lines, stack or bars), `log`, `whole`, `format`, and `series`: each
 * with `label`, `colour`, `dash`, `kind` if it is another than the chart's, and `value`, a function of data and an index.
 */
export class Chart {
  constructor(spec, onHover, onChoose) {
    this.spec = spec;
    this.root = document.createElement('figure');
    this.root.className = 'chart';
    this.root.id = `chart-${spec.id}`;
    const title = document.createElement('h2');
    title.textContent = spec.title;
    this.plot = svg('svg', { class: 'plot', role: 'img', 'aria-labelledby': `${spec.id}-title ${spec.id}-desc` });
    this.legend = document.createElement('ul');
    this.legend.className = 'legend';
    this.legend.setAttribute('aria-label', `${spec.title}: series`);
    this.values = spec.series.map((series) => this.addToLegend(series));
    if (spec.bands) this.addToLegend({ label: spec.bands, kind: 'bands' });
    this.root.append(title, this.plot, this.legend);
    this.plot.addEventListener('pointermove', (event) => onHover(this.timeAt(event)));
    this.plot.addEventListener('pointerleave', () => onHover(null));
    this.plot.addEventListener('click', (event) => onChoose(this.timeAt(event), this.reach ?? 0));
  }

  addToLegend(series) {
    const item = document.createElement('li');
    const swatch = svg('svg', { viewBox: '0 0 24 10', 'aria-hidden': 'true', class: `c-${series.colour}` });
    const kind = series.kind ?? this.spec.kind;
    if (kind === 'lines') swatch.append(svg('path', { class: 'line', d: 'M1 5H23', 'stroke-dasharray': series.dash ?? '' }));
    else swatch.append(svg('rect', { class: { bands: 'band', bars: 'bar' }[kind] ?? 'area', width: 24, height: 10 }));
    const value = document.createElement('b');
    item.append(swatch, series.label, value);
    this.legend.append(item);
    return value;
  }

  timeAt(event) {
    if (!this.shown) return null;
    const box = this.plot.getBoundingClientRect();
    const { from, to } = this.shown;
    const width = box.width - MARGIN.left - MARGIN.right;
    return from + ((event.clientX - box.left - MARGIN.left) / width) * (to - from);
  }

  /**
   * Draws `view`: data, from, to, cursor (an index), decisions (times), chosen (a set of times), and, for the axes, what
   * they reach at least (most) and the marks of time (ticks).
   */
  draw(view) {
    this.shown = view;
    const { spec, plot } = this;
    const width = Math.max(200, Math.round(plot.clientWidth || this.root.clientWidth));
    this.inner = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: HEIGHT - MARGIN.bottom };
    this.reach = (REACH * (view.to - view.from)) / (this.inner.right - this.inner.left);
    plot.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    const rows = spec.series.map((series) => view.data.at.map((_, i) => series.value(view.data, i)));
    const title = svg('title', { id: `${spec.id}-title` }, spec.title);
    const desc = svg('desc', { id: `${spec.id}-desc` }, this.describe(view, rows));
    plot.replaceChildren(title, desc);
    const y = this.drawValueAxis(rows, view.most ?? 0);
    const { left, right, bottom } = this.inner;
    drawTimeAxis(plot, view.from, view.to, left, right, bottom, view.ticks);
    const x = (ms) => left + ((ms - view.from) / (view.to - view.from)) * (right - left);
    this.drawBands(view, x);
    this.drawSeries(view, rows, x, y);
    plot.append(svg('line', { class: 'axis', x1: left, x2: right, y1: bottom, y2: bottom }));
    for (const at of view.decisions) this.drawLine(x(at), view.chosen.has(at) ? 'mark chosen' : 'mark');
    if (view.cursor !== null) this.drawLine(x(view.data.at[view.cursor] + view.data.stepMs / 2), 'cursor');
    this.values.forEach((value, index) => {
      const number = view.cursor === null ? null : rows[index][view.cursor];
      value.textContent = (spec.format ?? short)(number);
    });
  }

  drawLine(x, kind) {
    const { left, right, top, bottom } = this.inner;
    if (x >= left && x <= right) this.plot.append(svg('line', { class: kind, x1: x, x2: x, y1: top, y2: bottom }));
  }

  /** Draws the axis, and returns the function from a value to its height. */
  drawValueAxis(rows, atLeast) {
    const { spec, plot, inner } = this;
    const kindOf = (index) => spec.series[index].kind ?? spec.kind;
    const numbers = rows.filter((_, index) => kindOf(index) === 'lines').flat().filter((value) => value !== null);
    const stacked = rows.filter((_, index) => kindOf(index) !== 'lines');
    const sums = (stacked[0] ?? []).map((_, i) => stacked.reduce((sum, row) => sum + (row[i] ?? 0), 0));
    const most = [...numbers, ...sums].reduce((a, b) => Math.max(a, b), atLeast);
    let [ticks, y] = [];
    if (spec.log) {
      const positive = numbers.filter((value) => value > 0);
      const least = positive.reduce((a, b) => Math.min(a, b), Infinity);
      ticks = positive.length > 0 ? logTicks(Math.max(least, 0.1), Math.max(most, 1)) : [1, 10, 100, 1000];
      const [low, high] = [Math.log10(ticks[0]), Math.log10(ticks.at(-1))];
      y = (value) => inner.bottom - ((Math.log10(Math.max(value, ticks[0])) - low) / (high - low)) * (inner.bottom - inner.top);
    } else {
      ticks = valueTicks(most, spec.whole);
      y = (value) => inner.bottom - (value / ticks.at(-1)) * (inner.bottom - inner.top);
    }
    for (const tick of ticks) {
      plot.append(svg('line', { class: 'grid', x1: inner.left, x2: inner.right, y1: y(tick), y2: y(tick) }));
      plot.append(svg('text', { x: inner.left - 6, y: y(tick) + 4, 'text-anchor': 'end' }, (spec.tick ?? short)(tick)));
    }
    plot.append(svg('text', { x: 0, y: 10 }, spec.unit));
    return y;
  }

  drawBands({ data, to }, x) {
    const share = data.columns.degraded;
    for (const [first, last] of runs(data, (i) => share[i] > 0)) {
      const [a, b] = [Math.max(x(data.at[first]), this.inner.left), x(Math.min(data.at[last] + data.stepMs, to))];
      const { top, bottom } = this.inner;
      this.plot.append(svg('rect', { class: 'band', x: a, y: top, width: Math.max(2, b - a), height: bottom - top }));
    }
  }

  drawSeries({ data, to }, rows, x, y) {
    const middle = (i) => x(Math.min(data.at[i] + data.stepMs / 2, to));
    const bases = data.at.map(() => 0);
    this.spec.series.forEach((series, index) => {
      const row = rows[index];
      const kind = series.kind ?? this.spec.kind;
      const parts = runs(data, (i) => row[i] !== null);
      let path = '';
      if (kind === 'lines') {
        for (const [first, last] of parts) {
          for (let i = first; i <= last; i += 1) path += `${i === first ? 'M' : 'L'}${middle(i).toFixed(1)} ${y(row[i]).toFixed(1)}`;
          if (first === last) path += 'h0.1'; // a dot
        }
      } else {
        const tops = data.at.map((_, i) => bases[i] + (row[i] ?? 0));
        for (const [first, last] of parts) path += kind === 'bars' ? this.bars(data, first, last, bases, tops, x, y) : area(data, first, last, bases, tops, x, y, to);
        tops.forEach((top, i) => { bases[i] = top; });
      }
      const cls = { lines: 'line', bars: 'bar' }[kind] ?? 'area';
      if (path) this.plot.append(svg('path', { class: `${cls} c-${series.colour}`, d: path, 'stroke-dasharray': kind === 'lines' ? series.dash ?? '' : '' }));
    });
  }

  bars(data, first, last, bases, tops, x, y) {
    let path = '';
    for (let i = first; i <= last; i += 1) {
      if (tops[i] === bases[i]) continue;
      const [left, right] = [x(data.at[i]), x(data.at[i] + data.stepMs)];
      const width = Math.max(2, right - left - 1).toFixed(1);
      path += `M${left.toFixed(1)} ${y(bases[i]).toFixed(1)}h${width}V${y(tops[i]).toFixed(1)}h-${width}z`;
    }
    return path;
  }

  /** Says in words what the picture shows, for those who do not see it. */
  describe({ data, cursor }, rows) {
    if (data.at.length === 0) return 'Nothing was seen in this range.';
    const format = this.spec.format ?? short;
    const words = this.spec.series.map(({ label }, index) => {
      const seen = rows[index].filter((value) => value !== null);
      const most = seen.length > 0 ? seen.reduce((a, b) => Math.max(a, b), -Infinity) : null;
      return `${label} ${format(cursor === null ? null : rows[index][cursor])}, at most ${format(most)}`;
    });
    return `${this.spec.unit}: ${words.join('; ')}.`;
  }
}

/** Returns the first and last index of each run of adjacent buckets for which `is` holds. */
function runs(data, is) {
  const found = [];
  data.at.forEach((at, i) => {
    if (!is(i)) return;
    const last = found.at(-1);
    if (last && last[1] === i - 1 && at - data.at[i - 1] <= data.stepMs * 1.5) last[1] = i;
    else found.push([i, i]);
  });
  return found;
}

function area(data, first, last, bases, tops, x, y, to) {
  const right = (i) => x(Math.min(data.at[i] + data.stepMs, to)).toFixed(1);
  let path = `M${x(data.at[first]).toFixed(1)} ${y(tops[first]).toFixed(1)}`;
  for (let i = first; i <= last; i += 1) path += `V${y(tops[i]).toFixed(1)}H${right(i)}`;
  for (let i = last; i >= first; i -= 1) path += `V${y(bases[i]).toFixed(1)}H${x(data.at[i]).toFixed(1)}`;
  return `${path}z`;
}
