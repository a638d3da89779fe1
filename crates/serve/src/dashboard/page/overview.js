// The first look: five questions, each with its number.

import { el, find, setAttribute, setQuantity, setText } from './dom.js';
import { bytes, count, duration, elapsed, join, percent, plural, rate } from './format.js';

// [id, question]; a tile has a figure or two, each with a word, and a line that explains.
const TILES = [
  ['keeping-up', 'Is it keeping up?', ['read', 'lag']],
  ['how-late', 'How late is it?', ['p99', 'behind']],
  ['dropped', 'What did it drop?', ['late', 'dead letters']],
  ['cost', 'What does it cost?', ['CPU', 'memory']],
  ['found', 'What did it find?', ['written', '']],
];

const tiles = new Map();

export function buildOverview() {
  for (const [id, question, words] of TILES) {
    const figures = words.map((word) => ({ value: el('dd'), word: el('dt', {}, word) }));
    const list = el('dl', {}, ...figures.map((f) => el('div', {}, f.word, f.value)));
    const note = el('p', { class: 'note' });
    tiles.set(id, { figures, note });
    find('tiles').append(el('section', { class: 'tile', 'aria-labelledby': `q-${id}`, id }, el('h2', { id: `q-${id}` }, question), list, note));
  }
}

function show(id, figures, note) {
  const tile = tiles.get(id);
  figures.forEach(({ number, value, word, level }, i) => {
    const figure = tile.figures[i];
    setAttribute(figure.value, 'data-number', number);
    setAttribute(figure.value, 'data-level', level);
    setQuantity(figure.value, value);
    if (word) setText(figure.word, word);
  });
  tile.figures.forEach((f, i) => (f.value.parentElement.hidden = i >= figures.length));
  setText(tile.note, note);
}

// sink: the one whose latency is looked at.
export function showOverview(history, sink, condition) {
  const { now } = history;
  const lag = now.sum('riverrun_source_lag_records');
  show('keeping-up', [
    { number: 'read', value: rate(history.rate('riverrun_source_records_total'), 'records/s'), word: 'read' },
    { number: 'lag', value: count(lag, 'records'), word: 'wait to be read', level: condition.word === 'falling behind' ? 'bad' : null },
  ], waits(history) ?? `${join(count(now.sum('riverrun_source_records_total'), 'records'))} read since the run began`);
  lateness(history, sink);
  const [late, dead, dropped] = ['riverrun_late_rows_total', 'riverrun_dead_letters_total', 'riverrun_operator_late_rows_total'].map((m) => now.sum(m));
  show('dropped', [
    { number: 'late', value: count(late, 'rows'), word: 'came late', level: late > 0 ? 'warn' : null },
    { number: 'dead-letters', value: count(dead, 'records'), word: 'dead letters', level: dead > 0 ? 'warn' : null },
  ], `${plural(dropped ?? 0, 'row')} dropped by windows and OVER, too late for them`);
  show('cost', [
    { number: 'cpu', value: percent(history.rate('process_cpu_seconds_total')), word: 'of one core' },
    { number: 'memory', value: bytes(now.sum('process_resident_memory_bytes')), word: 'of memory' },
  ], `${join(bytes(now.sum('riverrun_state_bytes')))} of it state: ${join(count(now.sum('riverrun_state_rows'), 'rows'))}`);
  found(history);
}

function lateness(history, sink) {
  const behind = history.now.max('riverrun_source_watermark_lag_seconds');
  const [p50, p99] = [0.5, 0.99].map((q) => history.latency(q, sink));
  show('how-late', [
    { number: 'p99', value: duration(p99), word: `to ${sink ?? 'a sink'}, p99` },
    { number: 'behind', value: elapsed(behind), word: 'watermark behind now' },
  ], p50 == null ? 'no sink acknowledged anything in the last 10 s' : `p50 to ${sink} ${join(duration(p50))}; the last 10 s`);
}

function found(history) {
  const { now } = history;
  const alerts = now.sum('riverrun_sink_rows_total', { sink: 'fraud_alerts' });
  const written = { number: 'written', value: rate(history.rate('riverrun_sink_rows_total')), word: 'written' };
  const sinks = now.names('riverrun_sink_rows_total', 'sink').length;
  const note = `${join(count(now.sum('riverrun_sink_rows_total'), 'rows'))} safe in ${plural(sinks, 'sink')} since the run began`;
  if (alerts === undefined) return show('found', [written], note);
  show('found', [{ number: 'alerts', value: count(alerts, 'alerts'), word: 'since the run began' }, written], note);
}

// The sink that everything waits for, if one does.
function waits(history) {
  const sinks = history.now.names('riverrun_backpressure_seconds_total', 'sink');
  const [share, sink] = sinks.map((sink) => [history.rate('riverrun_backpressure_seconds_total', { sink }) ?? 0, sink]).sort((a, b) => b[0] - a[0])[0] ?? [0];
  return share > 0.05 ? `reading waits for the sink ${sink}: ${join(percent(share))} of a thread's time` : null;
}
