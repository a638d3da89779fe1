// Makes and updates elements. Whatever comes from outside becomes text, never markup: there is no innerHTML anywhere.

const SVG = 'http://www.w3.org/2000/svg';

// el('p', {class: 'note', role: 'alert'}, 'text', element…)
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const find = (id) => document.getElementById(id);

// Touches the document only where something changed: a selection stays, a screen reader is not disturbed.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value == null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// A quantity of format.js: the number, and its unit smaller beside it.
export function setQuantity(element, { text, unit }) {
  if (!element.firstElementChild) element.append(el('span', { class: 'n' }), el('span', { class: 'u' }));
  setText(element.firstElementChild, text);
  setText(element.lastElementChild, unit ? `\u00a0${unit}` : '');
}

// A table whose rows have keys and stay the same elements from one update to the next.
// columns: [{id, head, number, cell: row => text or {text, unit, level, share}}]; level: ok, warn, bad, off; share: 0 to 1.
export class Table {
  constructor(caption, columns, empty) {
    this.columns = columns;
    this.empty = empty;
    this.rows = new Map();
    this.body = el('tbody');
    const heads = columns.map((c) => el('th', { scope: 'col', class: c.number ? 'number' : null, title: c.title }, c.head));
    const table = el('table', {}, el('caption', { class: 'unseen' }, caption), el('thead', {}, el('tr', {}, ...heads)), this.body);
    this.element = el('div', { class: 'scroll', role: 'region', 'aria-label': caption, tabindex: '0', hidden: true }, table);
    this.note = el('p', { class: 'note' }, empty ?? '');
  }

  update(keyed) {
    const seen = new Set();
    keyed.forEach(([key, row], index) => {
      seen.add(key);
      let line = this.rows.get(key);
      if (!line) this.rows.set(key, (line = this.line(key)));
      this.columns.forEach((column, i) => setCell(line.cells[i], column.cell(row)));
      if (this.body.children[index] !== line.element) this.body.insertBefore(line.element, this.body.children[index] ?? null);
    });
    for (const [key, line] of this.rows) {
      if (seen.has(key)) continue;
      line.element.remove();
      this.rows.delete(key);
    }
    this.element.hidden = keyed.length === 0;
    this.note.hidden = keyed.length > 0 || !this.empty;
  }

  line(key) {
    const cells = this.columns.map((c, i) =>
      el(i === 0 ? 'th' : 'td', { class: c.number ? 'number' : null, scope: i === 0 ? 'row' : null, 'data-column': c.id }));
    return { cells, element: el('tr', { 'data-key': key }, ...cells) };
  }
}

function setCell(cell, value) {
  const { text, unit, level, share } = typeof value === 'object' && value !== null ? value : { text: value };
  if (!cell.firstElementChild) cell.append(el('span', { class: 'v' }));
  setQuantity(cell.firstElementChild, { text: text ?? '', unit });
  setAttribute(cell, 'data-level', level);
  if (share == null) return;
  if (cell.children.length === 1) cell.append(el('span', { class: 'bar', 'aria-hidden': 'true' }, el('span')));
  cell.lastElementChild.firstElementChild.style.width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
}
