// What condition the pipeline is in, in words: the mark in the header, and the banner when something is wrong.

import { el, find, setAttribute, setText } from './dom.js';
import { count, elapsed, join, moment, plural } from './format.js';

const QUIET = 10; // seconds without a record, and none waiting: idle
const GROWS = 30; // seconds over which lag is compared

// facts: {lost: since, denied, ended, pipeline, problems}; gives {word, level, note, banner}.
export function condition(history, facts) {
  const { lost, denied, ended, pipeline, problems } = facts;
  if (denied) return { word: 'no access', level: 'bad', note: '', banner: 'The process wants a token. Reload the page: the browser asks for it (as the password of any user).' };
  if (ended?.failure) return failed(ended.failure, ended.at);
  if (ended && lost) return { word: 'stopped', level: 'off', stale: true, note: `at ${join(moment(ended.at))}`, banner: 'The pipeline ended in order: it was stopped, or its input is done. What you see are its last numbers. The page goes on by itself once a pipeline answers here again.' };
  if (lost) {
    const since = `since ${join(moment(lost))}`;
    return { word: 'disconnected', level: 'bad', stale: true, note: since, banner: `The process has not answered ${since}: it was killed or crashed, or the way to it is broken. What you see are the last numbers from before. The page tries again every second.` };
  }
  if (!history.now) return { word: 'connecting', level: 'off', note: '' };
  if (pipeline?.state === 'failed') return failed(pipeline.failure);
  if (history.now.sum('riverrun_live') === 0) return failed(problems[0] ?? 'it does not live');
  if (pipeline?.state === 'paused' || history.now.sum('riverrun_paused') === 1) return { word: 'paused', level: 'warn', note: 'nothing is read until it is resumed', banner: null };
  if (history.now.sum('riverrun_ready') === 0) return notReady(problems, pipeline);
  return flow(history);
}

function failed(failure, at) {
  const text = failure.replace(/^the pipeline has failed: /, '');
  return { word: 'failed', level: 'bad', stale: at != null, note: at ? `at ${join(moment(at))}` : '', banner: `The pipeline has failed: ${text}` };
}

function notReady(problems, pipeline) {
  if (pipeline?.state === 'stopping' || problems.includes('the pipeline is stopping')) return { word: 'stopping', level: 'off', note: 'sinks are flushed, positions are kept' };
  if (problems.some((p) => p.startsWith('the pipeline is starting'))) return { word: 'starting', level: 'off', note: 'sources are opened, state is restored' };
  const more = problems.length > 3 ? ` … and ${plural(problems.length - 3, 'more', 'more')}` : '';
  return { word: 'not ready', level: 'warn', note: '', banner: `Not ready: ${problems.slice(0, 3).join('; ')}${more}` };
}

function flow(history) {
  const { now } = history;
  const lag = now.sum('riverrun_source_lag_records') ?? 0;
  const last = now.max('riverrun_source_last_record_timestamp_seconds');
  const quiet = last === undefined ? undefined : now.at - last;
  if (lag === 0 && (quiet === undefined || quiet > QUIET)) {
    return { word: 'idle', level: 'off', note: quiet === undefined ? 'nothing has come yet' : `nothing has come for ${join(elapsed(quiet))}` };
  }
  const old = history.line('lag').find(([t]) => t >= now.at - GROWS);
  const grown = old && old[1] != null && now.at - old[0] > GROWS / 2 ? (lag - old[1]) / (now.at - old[0]) : 0;
  const read = history.rate('riverrun_source_records_total') ?? 0;
  if (lag > Math.max(1000, 2 * read)) {
    if (grown > 0.01 * read + 1) return { word: 'falling behind', level: 'bad', note: `${join(count(lag, 'records'))} wait, ${join(count(grown, 'records/s'))} more come than are read` };
    const left = grown < -1 ? `, done in about ${join(elapsed(lag / -grown))}` : '';
    return { word: 'catching up', level: 'warn', note: `${join(count(lag, 'records'))} wait${left}` };
  }
  return { word: 'running', level: 'ok', note: 'it keeps up' };
}

export function showCondition({ word, level, note, banner, stale }) {
  const mark = find('condition');
  setAttribute(mark, 'data-level', level);
  setText(mark.querySelector('strong'), word);
  setText(find('condition-note'), note);
  document.body.classList.toggle('stale', Boolean(stale));
  const place = find('banner');
  setAttribute(place, 'data-level', level);
  if (place.textContent !== (banner ?? '')) place.replaceChildren(...(banner ? [el('p', {}, banner)] : []));
  place.hidden = !banner;
}
