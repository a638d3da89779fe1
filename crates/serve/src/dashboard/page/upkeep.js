// State, checkpoints, the journal, the process: what it costs to be safe.

import { el, find, setAttribute, setQuantity } from './dom.js';
import { bytes, count, duration, elapsed, percent, rate } from './format.js';
import { quantile } from './metrics.js';

const OLD = 60; // seconds: a checkpoint that is older is worth a look, unless they are taken that seldom

// [number, what it is, history => quantity, history => level]
const FACTS = {
  checkpoints: [
    ['checkpoint-age', 'since the last checkpoint', lastCheckpoint, (h) => (overdue(h) ? 'warn' : null)],
    ['checkpoints', 'written', (h) => count(h.now.sum('riverrun_checkpoints_total'), 'checkpoints')],
    ['checkpoint-failures', 'could not be written', (h) => count(h.now.sum('riverrun_checkpoint_failures_total'), 'checkpoints'), (h) => (h.now.sum('riverrun_checkpoint_failures_total') > 0 ? 'bad' : null)],
    ['checkpoint-size', 'size of the last one', (h) => bytes(h.now.sum('riverrun_checkpoint_size_bytes'))],
    ['checkpoint-time', 'to write one, on average', (h) => duration(mean(h, 'riverrun_checkpoint_duration_seconds'))],
    ['state-bytes', 'of state in memory', (h) => bytes(h.now.sum('riverrun_state_bytes'))],
    ['state-disk', 'of state on disk', (h) => bytes(h.now.sum('riverrun_state_disk_bytes'))],
    ['state-rows', 'in the state', (h) => count(h.now.sum('riverrun_state_rows'), 'rows')],
  ],
  journal: [
    ['journal-rate', 'committed', (h) => rate(h.rate('riverrun_journal_commits_total'), 'commits/s')],
    ['journal-p99', 'a commit, p99 of the last 10 s', (h) => duration(quantile(h.now, h.before(10), 0.99, 'riverrun_journal_commit_duration_seconds'))],
    ['journal-epochs', 'committed since the start', (h) => count(h.now.sum('riverrun_journal_epochs_total'), 'epochs')],
    ['journal-queue', 'of outputs wait for a commit', (h) => bytes(h.now.sum('riverrun_journal_queue_bytes'))],
    ['journal-retries', 'tried again', (h) => count(h.now.sum('riverrun_journal_retries_total'), 'commits'), (h) => (h.now.sum('riverrun_journal_retries_total') > 0 ? 'warn' : null)],
    ['journal-repeated', 'run again at the start', (h) => count(h.now.sum('riverrun_journal_repeated_epochs_total'), 'epochs')],
    ['rebalances', 'partitions came or went', (h) => count(h.now.sum('riverrun_rebalances_total'), 'times')],
  ],
  process: [
    ['process-cpu', 'of one core', (h) => percent(h.rate('process_cpu_seconds_total'))],
    ['process-memory', 'of memory, resident', (h) => bytes(h.now.sum('process_resident_memory_bytes'))],
    ['process-threads', 'run', (h) => count(h.now.sum('process_threads'), 'threads')],
    ['process-files', 'open', (h) => count(h.now.sum('process_open_fds'), 'files')],
    ['tasks', 'here or on other instances', (h) => count(h.now.sum('riverrun_tasks'), 'tasks')],
    ['workers', 'run them', (h) => count(h.now.sum('riverrun_workers'), 'workers')],
    ['uptime', 'since the start', (h) => elapsed(since(h, 'riverrun_start_timestamp_seconds'))],
  ],
};

const shown = [];

export function buildUpkeep() {
  for (const [id, facts] of Object.entries(FACTS)) {
    for (const [number, what, value, level] of facts) {
      const place = el('dd', { 'data-number': number });
      find(id).append(el('div', {}, el('dt', {}, what), place));
      shown.push({ place, value, level });
    }
  }
}

export function showUpkeep(history) {
  for (const { place, value, level } of shown) {
    setQuantity(place, value(history));
    setAttribute(place, 'data-level', level?.(history));
  }
}

function since({ now }, name) {
  const then = now.sum(name);
  return then === undefined ? undefined : now.at - then;
}

const age = (history) => since(history, 'riverrun_checkpoint_last_success_timestamp_seconds');
const interval = ({ now }) => now.sum('riverrun_checkpoint_interval_seconds');

function lastCheckpoint(history) {
  if (age(history) !== undefined) return elapsed(age(history));
  return { text: interval(history) === undefined ? 'this run keeps none' : 'none yet', unit: '' };
}

// Since the last one, or where there was none since the start.
function overdue(history) {
  const every = interval(history);
  return every !== undefined && (age(history) ?? since(history, 'riverrun_start_timestamp_seconds')) > Math.max(OLD, 3 * every);
}

function mean({ now }, name) {
  const n = now.sum(`${name}_count`);
  return n > 0 ? now.sum(`${name}_sum`) / n : undefined;
}
