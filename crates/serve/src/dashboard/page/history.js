// What the page remembers: the scrapes of the last seconds, for rates, and lines of points over the last quarter of an hour.

import { growth, quantile } from './metrics.js';

const KEPT = 900; // seconds of lines
const RATE = 3; // seconds that a rate is over; of less than half of it none is told
const LATENCY = 10; // seconds that quantiles are over

export class History {
  constructor() {
    this.scrapes = [];
    this.lines = new Map();
  }

  get now() {
    return this.scrapes.at(-1);
  }

  // The scrape from so many seconds ago, or the oldest of this run of the process.
  before(seconds) {
    const at = this.now?.at - seconds + 0.2;
    return this.scrapes.findLast((s) => s.at <= at) ?? this.scrapes[0];
  }

  add(scrape) {
    const start = (s) => s?.sum('riverrun_start_timestamp_seconds') ?? s?.sum('process_start_time_seconds');
    if (this.now && start(this.now) !== start(scrape)) this.scrapes = []; // another process: its counts began anew
    this.scrapes.push(scrape);
    while (this.scrapes.length > 2 && this.scrapes[1].at < scrape.at - 2 * LATENCY) this.scrapes.shift();
    for (const [name, value] of Object.entries(this.points())) this.point(name, scrape.at, value);
  }

  point(name, at, value) {
    if (!this.lines.has(name)) this.lines.set(name, []);
    const line = this.lines.get(name);
    const last = line.at(-1);
    if (last && at - last[0] > 5 && !last.coarse) line.push([last[0] + 0.1, null]); // nobody answered meanwhile
    if (value != null || (last && !last.coarse)) line.push([at, value ?? null]);
    while (line.length && line[0][0] < at - KEPT) line.shift();
  }

  line(name) {
    return this.lines.get(name) ?? [];
  }

  // Growth of counters per second, over the last seconds.
  rate(name, labels) {
    const before = this.before(RATE);
    return this.now?.at - before?.at < RATE / 2 ? undefined : growth(this.now, before, name, labels);
  }

  latency(q, sink) {
    return quantile(this.now, this.before(LATENCY), q, 'riverrun_sink_latency_seconds', { sink });
  }

  points() {
    const { now } = this;
    const points = {
      cpu: this.rate('process_cpu_seconds_total'),
      memory: now.sum('process_resident_memory_bytes'),
      lag: now.sum('riverrun_source_lag_records'),
    };
    for (const source of now.names('riverrun_source_records_total', 'source')) {
      points[`read ${source}`] = this.rate('riverrun_source_records_total', { source });
      points[`behind ${source}`] = now.max('riverrun_source_watermark_lag_seconds', { source });
    }
    for (const sink of now.names('riverrun_sink_rows_total', 'sink')) {
      for (const q of [0.5, 0.95, 0.99]) points[`latency ${q} ${sink}`] = this.latency(q, sink);
    }
    return points;
  }

  // Fills in what was before the page was opened, from reports of progress, oldest first: a point for each.
  fill(reports) {
    const before = this.now?.at ?? Infinity;
    for (const report of reports) {
      const at = Date.parse(report.timestamp) / 1000 + report.batch_duration / 1000;
      if (at >= before - 1 || at < before - KEPT) continue;
      const put = (name, value) => {
        const line = this.lines.get(name) ?? [];
        const place = line.findIndex(([t]) => t >= before);
        const point = Object.assign([at, value ?? null], { coarse: true });
        line.splice(place < 0 ? line.length : place, 0, point);
        this.lines.set(name, line);
      };
      put('lag', report.sources.reduce((sum, s) => sum + s.lag, 0));
      for (const source of report.sources) {
        const marks = Object.values(source.watermark).map((w) => Date.parse(w) / 1000);
        put(`read ${source.name}`, source.input_rows_per_second);
        put(`behind ${source.name}`, marks.length ? at - Math.min(...marks) : null);
      }
      for (const { name, latency_ms: ms } of report.sinks) {
        for (const q of [50, 95, 99]) put(`latency ${q / 100} ${name}`, ms && ms[`p${q}`] / 1000);
      }
    }
  }
}
