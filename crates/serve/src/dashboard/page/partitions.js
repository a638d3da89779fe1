// Lag and watermark of each partition: which one waits, which one is silent, which one holds the others back.

import { Table, find } from './dom.js';
import { count, duration, elapsed, moment, rate } from './format.js';

const STILL = 15; // seconds without a move, while others move: stuck
const SHOWN = 24; // rows at first; more by a button

const table = new Table('Partitions', [
  { id: 'partition', head: 'Partition', cell: (p) => `${p.source}\u00a0${p.partition}` },
  { id: 'state', head: 'State', cell: (p) => ({ text: p.state.word, level: p.state.level }) },
  { id: 'lag', head: 'Lag', number: true, cell: (p) => ({ ...count(p.lag, 'records'), share: p.lag == null ? null : p.lag / p.mostLag }) },
  { id: 'read', head: 'Read', number: true, cell: (p) => rate(p.read, 'records/s') },
  { id: 'behind', head: 'Watermark behind now', number: true, cell: (p) => ({ ...elapsed(p.behind), share: p.behind == null ? null : p.behind / p.mostBehind, level: p.state.word === 'stuck' ? 'bad' : null }) },
  { id: 'watermark', head: 'Watermark', number: true, cell: (p) => moment(p.watermark, p.now) },
  { id: 'last', head: 'Last record', number: true, cell: (p) => (p.last == null ? duration() : { ...elapsed(p.now - p.last), unit: `${elapsed(p.now - p.last).unit} ago` }) },
  { id: 'offset', head: 'Next offset', number: true, cell: (p) => count(p.offset) },
], 'No source has partitions yet.');

let all = false;

export function buildPartitions() {
  const more = find('more-partitions');
  more.addEventListener('click', () => {
    all = !all;
    more.setAttribute('aria-expanded', all);
  });
  find('partitions').append(table.element, table.note);
}

export function showPartitions(history) {
  const partitions = read(history);
  // The worst first where not all are shown; in order else.
  const shown = all || partitions.length <= SHOWN ? partitions : [...partitions].sort((a, b) => b.state.rank - a.state.rank || (b.lag ?? 0) - (a.lag ?? 0)).slice(0, SHOWN);
  table.update(shown.map((p) => [`${p.source}/${p.partition}`, p]));
  const more = find('more-partitions');
  more.hidden = partitions.length <= SHOWN;
  more.textContent = all ? `Show the ${SHOWN} worst only` : `Show all ${partitions.length} partitions`;
}

function read(history) {
  const { now } = history;
  const before = history.before(STILL);
  const of = (scrape, name, labels) => scrape?.sum(name, labels);
  const partitions = now.all('riverrun_source_assigned').map(({ labels: { source, partition } }) => {
    const labels = { source, partition };
    const [offset, old] = [of(now, 'riverrun_source_offset', labels), of(history.before(3), 'riverrun_source_offset', labels)];
    const seconds = now.at - history.before(3).at;
    return {
      source, partition, offset, now: now.at,
      lag: of(now, 'riverrun_source_lag_records', labels),
      read: offset == null || old == null || seconds <= 0 ? null : Math.max(0, (offset - old) / seconds),
      behind: of(now, 'riverrun_source_watermark_lag_seconds', labels),
      watermark: of(now, 'riverrun_source_watermark_seconds', labels),
      moved: of(now, 'riverrun_source_watermark_seconds', labels) > (of(before, 'riverrun_source_watermark_seconds', labels) ?? Infinity),
      last: of(now, 'riverrun_source_last_record_timestamp_seconds', labels),
      assigned: of(now, 'riverrun_source_assigned', labels) === 1,
      idle: of(now, 'riverrun_source_idle', labels) === 1,
      failing: of(now, 'riverrun_source_failing', labels) === 1,
    };
  });
  const most = (name) => Math.max(1, ...partitions.map((p) => p[name] ?? 0));
  const [mostLag, mostBehind] = [most('lag'), most('behind')];
  const observed = now.at - before.at >= STILL - 2;
  return partitions.map((p) => ({ ...p, mostLag, mostBehind, state: state(p, partitions, observed) }));
}

// rank: the greater, the more it needs a look.
function state(p, partitions, observed) {
  if (!p.assigned) return { word: 'read elsewhere', level: 'off', rank: 0 };
  if (p.failing) return { word: 'cannot be read', level: 'bad', rank: 5 };
  if (p.idle) return { word: 'idle', level: 'off', rank: 2 };
  if (p.watermark == null) return { word: p.offset == null ? 'not opened' : 'no event time', level: 'off', rank: 1 };
  const peers = partitions.filter((o) => o.source === p.source && o.assigned && o !== p);
  const leads = Math.max(...peers.map((o) => o.watermark ?? -Infinity)) - p.watermark > STILL;
  if (observed && !p.moved && leads && peers.some((o) => o.moved)) return { word: 'stuck', level: 'bad', rank: 4 };
  return { word: 'ok', level: 'ok', rank: 3 };
}
