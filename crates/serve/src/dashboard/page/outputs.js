// Sinks: how fast, how late, what waits for them; and operators: rows, time and state.

import { Table, find } from './dom.js';
import { bytes, count, duration, percent, rate } from './format.js';

const sinks = new Table('Sinks', [
  { id: 'sink', head: 'Sink', cell: (s) => s.sink },
  { id: 'state', head: 'State', cell: (s) => (s.failing ? { text: 'failing, tried again', level: 'bad' } : { text: 'ok', level: 'ok' }) },
  { id: 'rate', head: 'Written', number: true, cell: (s) => rate(s.rate) },
  { id: 'rows', head: 'Safe since the start', number: true, cell: (s) => count(s.rows, 'rows') },
  { id: 'p50', head: 'p50', number: true, title: 'Latency from a record’s own time to the acknowledgement, last 10 seconds', cell: (s) => duration(s.p50) },
  { id: 'p95', head: 'p95', number: true, cell: (s) => duration(s.p95) },
  { id: 'p99', head: 'p99', number: true, cell: (s) => duration(s.p99) },
  { id: 'busy', head: 'Busy', number: true, title: 'Share of one thread’s time', cell: (s) => percent(s.busy) },
  { id: 'queue', head: 'Queue', number: true, cell: (s) => ({ ...bytes(s.queue), share: s.queue / s.limit, level: s.queue > 0.9 * s.limit ? 'warn' : null }) },
  { id: 'retries', head: 'Retries', number: true, cell: (s) => ({ ...count(s.retries, 'times'), level: s.retries > 0 ? 'warn' : null }) },
], 'No sink yet.');

const operators = new Table('Operators', [
  { id: 'operator', head: 'Operator', cell: (o) => o.operator },
  { id: 'in', head: 'Takes', number: true, cell: (o) => rate(o.in) },
  { id: 'out', head: 'Gives', number: true, cell: (o) => rate(o.out) },
  { id: 'busy', head: 'Busy', number: true, title: 'Share of one thread’s time', cell: (o) => ({ ...percent(o.busy), share: o.busy }) },
  { id: 'rows-in', head: 'Taken since the start', number: true, cell: (o) => count(o.rowsIn, 'rows') },
  { id: 'state-rows', head: 'State', number: true, cell: (o) => (o.stateRows ? count(o.stateRows, 'rows') : {}) },
  { id: 'state-bytes', head: 'In memory', number: true, cell: (o) => (o.stateBytes ? bytes(o.stateBytes) : {}) },
  { id: 'state-disk', head: 'On disk', number: true, title: 'State on disk: with SET state.backend = \'disk\'', cell: (o) => (o.stateDisk ? bytes(o.stateDisk) : {}) },
  { id: 'late', head: 'Dropped as late', number: true, cell: (o) => ({ ...(o.late || o.stateRows ? count(o.late, 'rows') : {}), level: o.late > 0 ? 'warn' : null }) },
], 'No operator yet.');

export function buildOutputs() {
  find('sinks').append(sinks.element, sinks.note);
  find('operators').append(operators.element, operators.note);
}

export function showOutputs(history) {
  const { now } = history;
  sinks.update(now.names('riverrun_sink_rows_total', 'sink').map((sink) => {
    const of = (name) => now.sum(name, { sink });
    return [sink, {
      sink,
      failing: of('riverrun_sink_failing') === 1,
      rate: history.rate('riverrun_sink_rows_total', { sink }),
      rows: of('riverrun_sink_rows_total'),
      p50: history.latency(0.5, sink),
      p95: history.latency(0.95, sink),
      p99: history.latency(0.99, sink),
      busy: busy(history, sink),
      queue: of('riverrun_sink_queue_bytes'),
      limit: of('riverrun_sink_queue_limit_bytes'),
      retries: of('riverrun_sink_retries_total'),
    }];
  }));
  operators.update(now.names('riverrun_operator_rows_in_total', 'operator').map((operator) => {
    const of = (name) => now.sum(name, { operator });
    return [operator, {
      operator,
      in: history.rate('riverrun_operator_rows_in_total', { operator }),
      out: history.rate('riverrun_operator_rows_out_total', { operator }),
      busy: history.rate('riverrun_operator_busy_seconds_total', { operator }),
      rowsIn: of('riverrun_operator_rows_in_total'),
      stateRows: of('riverrun_state_rows'),
      stateBytes: of('riverrun_state_bytes'),
      stateDisk: of('riverrun_state_disk_bytes'),
      late: of('riverrun_operator_late_rows_total'),
    }];
  }));
}

// A sink's thread writes, and makes safe.
export function busy(history, sink) {
  const writes = history.rate('riverrun_sink_write_seconds_total', { sink });
  const flushes = history.rate('riverrun_sink_flush_duration_seconds_sum', { sink });
  return writes === undefined ? undefined : writes + (flushes ?? 0);
}
