// Asks once a second, remembers, shows. Every number is of /metrics, or says what else it is of.

import { BINARY, Chart, TIME } from './chart.js';
import { condition, showCondition } from './condition.js';
import { buildDrops, showDrops } from './drops.js';
import { el, find, setText } from './dom.js';
import { bytes, count, duration, join, moment, percent, rate } from './format.js';
import { buildFraud, showFraud } from './fraud.js';
import { drawGraph, showGraph } from './graph.js';
import { History } from './history.js';
import { Scrape } from './metrics.js';
import { buildOutputs, showOutputs } from './outputs.js';
import { buildOverview, showOverview } from './overview.js';
import { buildPartitions, showPartitions } from './partitions.js';
import { Denied, end, json, text } from './server.js';
import { buildTheme } from './theme.js';
import { buildUpkeep, showUpkeep } from './upkeep.js';

const TICK = 1000; // milliseconds
const LATENCIES = [[0.5, 'p50', 1], [0.95, 'p95', 2], [0.99, 'p99', 3]];

const history = new History();
const facts = { lost: null, denied: false, ended: null, pipeline: null, problems: [] };
let [span, sink, drawn, run] = [300, null, null, null];

const charts = {
  read: new Chart('Records read', { format: (v) => rate(v, 'rec/s'), least: 10 }),
  latency: new Chart('Latency', { format: duration, scale: TIME, least: 0.01 }),
  lag: new Chart('Lag: records that wait', { format: (v) => count(v, 'rec'), least: 10 }),
  behind: new Chart('Watermark behind now', { format: duration, scale: TIME, least: 1 }),
  cpu: new Chart('CPU, of one core', { format: percent, least: 0.1 }),
  memory: new Chart('Memory, resident', { format: bytes, scale: BINARY, least: 1 << 26 }),
};

async function tick() {
  const since = Date.now();
  try {
    const answer = await text('/metrics');
    if (answer) took(new Scrape(answer.text, answer.at));
    facts.pipeline = await json('/api/v1/pipeline');
    facts.problems = history.now?.sum('riverrun_ready') === 0 ? (await json('/api/v1/pipeline/health')).problems : [];
    if (history.now?.sum('riverrun_ready') !== undefined) await learn();
    facts.lost = null;
    facts.denied = false;
  } catch (e) {
    facts.denied = e instanceof Denied;
    facts.lost ??= history.now?.at ?? Date.now() / 1000;
  }
  show();
  setTimeout(tick, Math.max(200, TICK - (Date.now() - since)));
}

function took(scrape) {
  history.add(scrape);
  const start = scrape.sum('process_start_time_seconds');
  if (run !== start) facts.ended = null; // another process than the one that ended
  run = start;
}

// What a run of the process tells once it has started: its graph, and what it did before the page came.
async function learn() {
  if (drawn === run || history.now.sum('riverrun_start_timestamp_seconds') === undefined) return;
  const [graph, reports] = await Promise.all([json('/api/v1/pipeline/graph'), json('/api/v1/pipeline/progress?n=100')]);
  if (graph) drawGraph(graph);
  if (reports) history.fill(reports);
  drawn = run;
}

async function awaitEnd() {
  for (;;) {
    const told = await end();
    if (told) {
      facts.ended = { failure: told.failure, at: Date.now() / 1000 };
      show();
    }
    await new Promise((resolve) => setTimeout(resolve, TICK));
  }
}

function show() {
  const is = condition(history, facts);
  showCondition(is);
  const name = history.now?.all('riverrun_live')[0]?.labels.pipeline;
  if (name) setText(find('pipeline'), name);
  document.title = `${is.word} · ${name ?? 'Riverrun'}`;
  if (!history.now || is.stale) return;
  setText(find('clock'), join(moment(history.now.at)));
  const sinks = history.now.names('riverrun_sink_rows_total', 'sink');
  chooseSink(sinks);
  showOverview(history, sink, is);
  showCharts();
  for (const part of [showFraud, showPartitions, showGraph, showOutputs, showDrops, showUpkeep]) part(history);
}

// The sink whose latency is shown: of alerts if there is one, else the first.
function chooseSink(sinks) {
  const choice = find('sink');
  if (sinks.join() !== [...choice.options].map((o) => o.value).join()) choice.replaceChildren(...sinks.map((s) => el('option', { value: s }, s)));
  if (!sinks.includes(sink)) sink = sinks.includes('fraud_alerts') ? 'fraud_alerts' : (sinks[0] ?? null);
  if (sink !== null) choice.value = sink;
}

function showCharts() {
  const { now } = history;
  const line = (key, name, color) => ({ name, color, points: history.line(key) });
  const sources = now.names('riverrun_source_records_total', 'source');
  const color = (i) => 1 + ((2 + i) % 6);
  charts.read.update(sources.map((s, i) => line(`read ${s}`, s, color(i))), now.at, span);
  charts.latency.update(LATENCIES.map(([q, name, c]) => line(`latency ${q} ${sink}`, name, c)), now.at, span);
  charts.lag.update([line('lag', 'all partitions', 3)], now.at, span);
  charts.behind.update(sources.map((s, i) => line(`behind ${s}`, s, color(i))), now.at, span);
  charts.cpu.update([line('cpu', 'process', 3)], now.at, span);
  charts.memory.update([line('memory', 'process', 3)], now.at, span);
}

function build() {
  buildTheme();
  for (const part of [buildOverview, buildFraud, buildPartitions, buildOutputs, buildDrops, buildUpkeep]) part();
  find('charts').append(charts.read.element, charts.latency.element, charts.lag.element, charts.behind.element);
  charts.latency.element.querySelector('figcaption').append(find('sink-label'));
  find('process-charts').append(charts.cpu.element, charts.memory.element);
  find('sink').addEventListener('change', (e) => {
    sink = e.target.value;
    show();
  });
  for (const choice of document.querySelectorAll('[name=span]')) {
    choice.addEventListener('change', () => {
      span = Number(choice.value);
      show();
    });
  }
}

build();
tick();
awaitEnd();
