// Reads /metrics: the one place that the page's numbers come from, so they are those that Prometheus sees.

const series = new Map(); // 'name{labels}' as written -> {name, labels}: they are the same from one scrape to the next

// All series of one moment.
export class Scrape {
  // `at`: seconds since 1970, by the server's clock.
  constructor(text, at) {
    this.at = at;
    this.families = new Map();
    for (const line of text.split('\n')) {
      if (line === '' || line.startsWith('#')) continue;
      const space = line.lastIndexOf(' ');
      const { name, labels } = describe(line.slice(0, space));
      if (!this.families.has(name)) this.families.set(name, []);
      this.families.get(name).push({ labels, value: number(line.slice(space + 1)) });
    }
  }

  // The series of a name that have these labels.
  all(name, labels = {}) {
    const wanted = Object.entries(labels);
    return (this.families.get(name) ?? []).filter((s) => wanted.every(([l, v]) => s.labels[l] === v));
  }

  // Their sum; undefined if there is none.
  sum(name, labels) {
    const found = this.all(name, labels);
    return found.length ? found.reduce((sum, s) => sum + s.value, 0) : undefined;
  }

  // The values of a label, in the order of their coming.
  names(name, label) {
    return [...new Set(this.all(name).map((s) => s.labels[label]))];
  }

  max(name, labels) {
    const found = this.all(name, labels);
    return found.length ? Math.max(...found.map((s) => s.value)) : undefined;
  }
}

function describe(written) {
  let found = series.get(written);
  if (!found) series.set(written, (found = parse(written)));
  return found;
}

function parse(written) {
  const brace = written.indexOf('{');
  if (brace < 0) return { name: written, labels: {} };
  const labels = {};
  const pair = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;
  for (const [, label, value] of written.slice(brace).matchAll(pair)) {
    labels[label] = value.replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
  }
  return { name: written.slice(0, brace), labels };
}

function number(text) {
  return text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text);
}

// By how much counters grew per second; undefined if that can't be told: one scrape only, or the process is another.
export function growth(now, before, name, labels) {
  const [to, from] = [now?.sum(name, labels), before?.sum(name, labels)];
  if (to === undefined || from === undefined || now.at <= before.at || to < from) return undefined;
  return (to - from) / (now.at - before.at);
}

// A quantile of what a histogram observed between two scrapes, as PromQL's histogram_quantile does it; undefined without any.
export function quantile(now, before, q, name, labels) {
  const counts = (scrape) => {
    const sums = new Map();
    for (const s of scrape.all(`${name}_bucket`, labels)) {
      const bound = number(s.labels.le);
      sums.set(bound, (sums.get(bound) ?? 0) + s.value);
    }
    return sums;
  };
  if (!now || !before) return undefined;
  const [to, from] = [counts(now), counts(before)];
  const bounds = [...to.keys()].sort((a, b) => a - b);
  const cumulative = bounds.map((b) => to.get(b) - (from.get(b) ?? 0));
  const total = cumulative.at(-1);
  if (!(total > 0)) return undefined;
  const rank = q * total;
  const i = cumulative.findIndex((c) => c >= rank);
  if (bounds[i] === Infinity) return bounds.at(-2);
  const [low, below] = i === 0 ? [0, 0] : [bounds[i - 1], cumulative[i - 1]];
  return low + ((bounds[i] - low) * (rank - below)) / (cumulative[i] - below);
}
