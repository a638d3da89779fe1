// Line charts over time, in SVG: axes with units, a legend that tells values, a cursor for mouse, touch and arrow keys.

import { el, setAttribute, setText, svg } from './dom.js';
import { join, moment } from './format.js';

const HEIGHT = 168;
// The least round step that is no smaller than `rough`: of plain numbers, of bytes, of seconds.
export const DECIMAL = (rough) => {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
};
export const BINARY = (rough) => {
  const unit = 1024 ** Math.max(0, Math.floor(Math.log(rough) / Math.log(1024)));
  return unit * Math.min(1024, DECIMAL(rough / unit));
};
export const TIME = (rough) => (rough < 20 ? DECIMAL(rough) : [30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200].find((s) => s >= rough) ?? 86400 * DECIMAL(rough / 86400));

const MARGIN = { left: 72, right: 10, top: 10, bottom: 22 };

export class Chart {
  // format: value => {text, unit}; scale: of DECIMAL, BINARY, TIME; least: the axis reaches at least so far, so that noise near zero
  // stays small.
  constructor(title, { format, scale = DECIMAL, least = 1 }) {
    Object.assign(this, { title, format, scale, least, lines: [], until: 0, span: 300, cursor: null, width: 0 });
    this.legend = el('ul', { class: 'legend' });
    this.time = el('p', { class: 'note chart-time' });
    this.plot = svg('svg', { class: 'plot', height: HEIGHT, tabindex: '0', role: 'img' });
    this.element = el('figure', { class: 'chart' }, el('figcaption', {}, el('h3', {}, title), this.time), this.legend, this.plot);
    this.plot.addEventListener('pointermove', (e) => this.point(e.clientX - this.plot.getBoundingClientRect().left));
    this.plot.addEventListener('pointerleave', () => this.leave());
    this.plot.addEventListener('blur', () => this.leave());
    this.plot.addEventListener('keydown', (e) => this.key(e));
    new ResizeObserver(([entry]) => {
      this.width = entry.contentRect.width;
      this.draw();
    }).observe(this.plot);
  }

  // lines: [{name, points: [[t, value]…], color: 1 to 6}]; a value of null is a gap. The last `span` seconds until `until`.
  update(lines, until, span) {
    Object.assign(this, { lines, until, span });
    this.draw();
  }

  x(t) {
    return MARGIN.left + ((t - this.until + this.span) / this.span) * (this.width - MARGIN.left - MARGIN.right);
  }

  point(x) {
    const t = this.until - this.span + ((x - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right)) * this.span;
    this.cursor = Math.min(this.until, Math.max(this.until - this.span, t));
    this.draw();
  }

  leave() {
    this.cursor = null;
    this.draw();
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (!step && event.key !== 'Escape') return;
    event.preventDefault();
    if (!step) return this.leave();
    const t = (this.cursor ?? this.until) + (step * this.span) / 60;
    this.cursor = t >= this.until ? null : Math.max(this.until - this.span, t);
    this.draw();
  }

  draw() {
    if (this.width < 50) return;
    const from = this.until - this.span;
    const seen = this.lines.map((line) => ({ ...line, points: line.points.filter(([t]) => t >= from && t <= this.until) }));
    let top = this.least;
    for (const { points } of seen) for (const [, v] of points) if (v > top) top = v;
    const ticks = axis(top, this.scale);
    top = ticks.at(-1);
    const y = (v) => HEIGHT - MARGIN.bottom - (v / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    this.plot.replaceChildren(
      ...ticks.flatMap((tick) => this.gridLine(tick, y(tick))),
      ...this.times(from),
      ...seen.flatMap((line) => this.line(line, y)),
      ...this.cross(seen, y),
    );
    this.tell(seen);
  }

  gridLine(tick, y) {
    const line = svg('line', { class: 'grid', x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y });
    return [line, svg('text', { class: 'tick', x: MARGIN.left - 8, y: y + 4, 'text-anchor': 'end' }, join(this.format(tick)))];
  }

  times(from) {
    const step = [15, 30, 60, 120, 300].find((s) => this.span / s <= Math.max(2, this.width / 130)) ?? 600;
    const texts = [];
    for (let t = Math.ceil(from / step) * step; t <= this.until; t += step) {
      const x = this.x(t);
      if (x < MARGIN.left + 20 || x > this.width - 24) continue;
      texts.push(svg('text', { class: 'tick', x, y: HEIGHT - 6, 'text-anchor': 'middle' }, new Date(t * 1000).toISOString().slice(11, step < 60 ? 19 : 16)));
    }
    return texts;
  }

  line({ points, color }, y) {
    let [path, pen] = ['', 'M'];
    let last = null;
    for (const [t, v] of points) {
      const gap = v == null || Number.isNaN(v);
      if (!gap) path += `${pen}${this.x(t).toFixed(1)} ${y(v).toFixed(1)}`;
      pen = gap ? 'M' : 'L';
      last = gap ? null : [t, v];
    }
    const dot = last ? [svg('circle', { class: `dot c${color}`, cx: this.x(last[0]), cy: y(last[1]), r: 2.5 })] : [];
    return [svg('path', { class: `line c${color}`, d: path }), ...dot];
  }

  cross(seen, y) {
    if (this.cursor === null) return [];
    const x = this.x(this.cursor);
    const dots = seen.flatMap((line) => {
      const at = nearest(line.points, this.cursor);
      return at ? [svg('circle', { class: `dot c${line.color}`, cx: this.x(at[0]), cy: y(at[1]), r: 4 })] : [];
    });
    return [svg('line', { class: 'cursor', x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }), ...dots];
  }

  // The legend: values at the cursor, else the newest.
  tell(seen) {
    while (this.legend.children.length > seen.length) this.legend.lastElementChild.remove();
    const told = seen.map((line, i) => {
      if (!this.legend.children[i]) this.legend.append(el('li', {}, el('span', { class: 'key' }), el('span'), el('strong')));
      const [key, name, value] = this.legend.children[i].children;
      const at = this.cursor === null ? line.points.at(-1) : nearest(line.points, this.cursor);
      setAttribute(key, 'class', `key c${line.color}`);
      setText(name, line.name);
      setText(value, join(this.format(at?.[1])));
      return `${line.name} ${join(this.format(at?.[1]))}`;
    });
    const at = this.cursor === null ? '' : `at ${join(moment(this.cursor))}`;
    setText(this.time, at);
    setAttribute(this.plot, 'aria-label', `${this.title} ${at || 'now'}: ${told.join(', ') || 'nothing yet'}. Arrow keys move through time.`);
  }
}

// Three or four round numbers from 0 to at least `top`.
function axis(top, scale) {
  const step = scale(top / 3);
  return Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, i) => i * step);
}

// The point nearest to a time that has a value, unless it is far away.
function nearest(points, time) {
  let best = null;
  for (const point of points) {
    if (point[1] != null && (!best || Math.abs(point[0] - time) < Math.abs(best[0] - time))) best = point;
  }
  return best && Math.abs(best[0] - time) < 15 ? best : null;
}
