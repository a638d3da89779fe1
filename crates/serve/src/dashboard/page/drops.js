// What was dropped, and why: counts from /metrics, samples with their reasons from the API.

import { Table, el, find } from './dom.js';
import { count, join, moment } from './format.js';
import { json } from './server.js';

const SAMPLES = 20;

const counts = new Table('Rows and records that were dropped or set aside', [
  { id: 'where', head: 'Where', cell: (d) => d.where },
  { id: 'why', head: 'Why', cell: (d) => d.why },
  { id: 'count', head: 'How many', number: true, cell: (d) => ({ ...count(d.count, d.unit), level: d.count > 0 ? 'warn' : null }) },
], 'Nothing: every record became a row, and every row was in time.');

let [told, samples] = ['', find('samples')];

export function buildDrops() {
  find('drops').append(counts.element, counts.note);
}

export function showDrops({ now }) {
  const seen = (name, label, row) => now.all(name).filter((s) => s.value > 0).map((s) => [`${name} ${s.labels[label]} ${s.labels.reason ?? ''}`, row(s)]);
  const rows = [
    ...seen('riverrun_dead_letters_total', 'source', ({ labels, value }) => ({ where: labels.source, why: `dead letter: ${labels.reason.replaceAll('_', ' ')}`, count: value, unit: 'records' })),
    ...seen('riverrun_late_rows_total', 'source', ({ labels, value }) => ({ where: labels.source, why: 'late: behind the watermark of its partition', count: value, unit: 'rows' })),
    ...seen('riverrun_operator_late_rows_total', 'operator', ({ labels, value }) => ({ where: labels.operator, why: 'dropped here: too late for its windows or its order', count: value, unit: 'rows' })),
  ];
  counts.update(rows);
  const now_told = rows.map(([key, row]) => `${key} ${row.count}`).join();
  if (now_told === told) return;
  told = now_told;
  fetchSamples();
}

async function fetchSamples() {
  try {
    const [dead, late] = await Promise.all([json(`/api/v1/dead-letters?limit=${SAMPLES}`), json(`/api/v1/late-rows?limit=${SAMPLES}`)]);
    const letters = (dead?.samples ?? []).slice(0, SAMPLES).map(deadLetter);
    const rows = (late?.sources ?? []).flatMap(({ source, rows }) => rows.map((r) => lateRow(source, r))).slice(-SAMPLES).reverse();
    samples.replaceChildren(...list('Newest dead letters', letters), ...list('Newest late rows', rows));
  } catch {
    told = ''; // asked again with the next scrape
  }
}

const list = (title, items) => (items.length ? [el('div', {}, el('h3', {}, title), el('ul', { class: 'samples', tabindex: '0', 'aria-label': title }, ...items))] : []);

function deadLetter({ source, partition, offset, reason, detail, key, payload, seen }) {
  const place = `${source}, partition ${partition}, offset ${offset}${key == null ? '' : `, key ${key}`}`;
  return el('li', {}, el('p', {}, el('strong', {}, reason.replaceAll('_', ' ')), ` ${detail}`), el('p', { class: 'note' }, `${place} · ${at(seen)}`), el('code', {}, payload ?? ''));
}

function lateRow(source, { row, time }) {
  return el('li', {}, el('p', { class: 'note' }, `${source} · read ${at(time)}`), el('code', {}, JSON.stringify(row)));
}

const at = (text) => join(moment(Date.parse(text) / 1000));
