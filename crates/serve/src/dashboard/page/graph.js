// The graph: sources to the left, sinks to the right, rate and time in each node. Its form comes from the API once, the numbers
// from /metrics.

import { find, setAttribute, setText, svg } from './dom.js';
import { join, percent, rate } from './format.js';
import { busy } from './outputs.js';

const BOX = { width: 200, height: 50, across: 244, down: 62 };
const LETTERS = { fit: 22, most: 30 }; // of a name: more than fit are squeezed, more than most are cut

let drawn = []; // [{node, rate, time, bar}]

export function drawGraph({ nodes, edges }) {
  const places = layout(nodes, edges);
  const width = Math.max(...[...places.values()].map((p) => p.x)) + BOX.width + 2;
  const height = Math.max(...[...places.values()].map((p) => p.y)) + BOX.height + 2;
  const picture = find('graph-picture');
  setAttribute(picture, 'viewBox', `-1 -1 ${width} ${height}`);
  picture.style.setProperty('--natural', `${width}px`);
  drawn = nodes.map((node) => ({ node, ...box(node, places.get(node.id)) }));
  picture.replaceChildren(...edges.map((e) => arrow(places.get(e.from), places.get(e.to), e.port)), ...drawn.map((d) => d.element));
  find('graph-section').hidden = false;
}

export function showGraph(history) {
  const figures = {
    source: ({ name: source }) => [history.rate('riverrun_source_records_total', { source }), history.rate('riverrun_source_busy_seconds_total', { source })],
    operator: ({ name: operator }) => [history.rate('riverrun_operator_rows_in_total', { operator }), history.rate('riverrun_operator_busy_seconds_total', { operator })],
    sink: ({ name: sink }) => [history.rate('riverrun_sink_rows_total', { sink }), busy(history, sink)],
  };
  for (const { node, element, flow, time, bar } of drawn) {
    const [rows, share] = figures[node.role](node);
    setText(flow, join(rate(rows)));
    setText(time, join(percent(share)));
    setAttribute(bar, 'width', (Math.min(1, share ?? 0) * BOX.width).toFixed(1));
    setAttribute(element, 'data-hot', share > 0.8 ? 'yes' : null);
    setText(element.querySelector('title'), `${node.role} ${node.name}: ${join(rate(rows))}, busy ${join(percent(share))} of a thread. ${(node.description ?? []).join('; ')}`);
  }
}

// Column: the longest way from a source. Row: near what a node is fed by.
function layout(nodes, edges) {
  const into = (id) => edges.filter((e) => e.to === id).map((e) => e.from);
  const depth = new Map();
  for (const { id } of nodes) depth.set(id, Math.max(-1, ...into(id).map((from) => depth.get(from) ?? 0)) + 1); // nodes come in topological order
  const columns = Array.from({ length: Math.max(...depth.values()) + 1 }, (_, column) => nodes.filter((n) => depth.get(n.id) === column));
  const row = new Map();
  for (const column of columns) {
    const wish = (n) => mean(into(n.id).map((from) => row.get(from)));
    column.sort((a, b) => wish(a) - wish(b)).reduce((next, n) => {
      row.set(n.id, Math.max(next, wish(n)));
      return row.get(n.id) + 1;
    }, 0);
  }
  return new Map(nodes.map(({ id }) => [id, { x: depth.get(id) * BOX.across, y: row.get(id) * BOX.down }]));
}

const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0);

function arrow(from, to, port) {
  const [x1, y1, x2, y2] = [from.x + BOX.width, from.y + BOX.height / 2, to.x, to.y + BOX.height / 2];
  const middle = Math.max(x1 + 18, x2 - 18 - Math.abs(y2 - y1) / 8);
  return svg('path', { class: `edge ${port ?? 'rows'}`, d: `M${x1} ${y1}C${middle} ${y1} ${x2 - 18} ${y2} ${x2} ${y2}` }, svg('title', {}, port ?? 'rows'));
}

function box(node, { x, y }) {
  const [flow, time] = [svg('text', { class: 'flow', x: 10, y: 39 }), svg('text', { class: 'time', x: BOX.width - 10, y: 39, 'text-anchor': 'end' })];
  const bar = svg('rect', { class: 'busy', x: 0, y: BOX.height - 3, width: 0, height: 3, rx: 1.5 });
  const name = node.name.length > LETTERS.most ? `${node.name.slice(0, LETTERS.most - 1)}…` : node.name;
  const squeezed = name.length > LETTERS.fit ? { textLength: BOX.width - 20, lengthAdjust: 'spacingAndGlyphs' } : {};
  const element = svg('g', { class: `node ${node.role}`, transform: `translate(${x} ${y})`, 'data-node': node.name },
    svg('title'), svg('rect', { class: 'box', width: BOX.width, height: BOX.height, rx: 6 }), svg('text', { class: 'name', x: 10, y: 20, ...squeezed }, name), flow, time, bar);
  return { element, flow, time, bar };
}
