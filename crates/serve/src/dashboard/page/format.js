// Numbers as people read them. Each function gives {text, unit}: no number stands without its unit.

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
export const NOTHING = { text: '–', unit: '' };

const digits = (value, n) => value.toLocaleString('en-US', { minimumFractionDigits: n, maximumFractionDigits: n });

// What is not known is a dash.
const known = (format) => (value, ...rest) => (value == null || Number.isNaN(value) ? NOTHING : format(value, ...rest));

// 1 row, 2 rows: units of things are plurals.
export const count = known((value, unit = '') => ({ text: grouped.format(value), unit: value === 1 ? unit.replace(/^([^/]*)s$/, '$1') : unit }));

export const rate = known((value, unit = 'rows/s') => ({ text: value > 0 && value < 10 ? digits(value, 1) : grouped.format(value), unit }));

export const percent = known((share) => {
  const value = share * 100;
  return { text: digits(value, value > 0 && value < 10 ? 1 : 0), unit: '%' };
});

export const bytes = known((value) => {
  if (value < 1024) return { text: grouped.format(value), unit: 'B' };
  let power = -1;
  while (value >= 1024 && power < 4) {
    value /= 1024;
    power += 1;
  }
  return { text: digits(value, value < 10 ? 1 : 0), unit: ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'][power] };
});

// Seconds, from microseconds to days.
export const duration = known((seconds) => {
  if (seconds < 0) return { text: `−${join(duration(-seconds))}`, unit: '' };
  if (seconds === 0) return { text: '0', unit: 's' };
  if (seconds < 0.001) return { text: digits(seconds * 1e6, 0), unit: 'µs' };
  if (seconds < 0.9995) return { text: digits(seconds * 1e3, seconds < 0.01 ? 1 : 0), unit: 'ms' };
  if (seconds < 59.95) return { text: digits(seconds, seconds < 10 ? 1 : 0), unit: 's' };
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  let rest = Math.round(seconds);
  const first = parts.findIndex(([size]) => rest >= size);
  const said = [];
  for (const [size, unit] of parts.slice(first, first + 2)) {
    if (rest >= size) said.push(`${grouped.format(Math.floor(rest / size))}\u00a0${unit}`);
    rest %= size;
  }
  return { text: said.join(' '), unit: '' };
});

// Whole seconds: for what counts up before one's eyes.
export const elapsed = known((seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  return whole < 60 ? { text: `${whole}`, unit: 's' } : duration(whole);
});

export const money = known((value) => ({ text: digits(value, 2), unit: '' }));

// A moment, from seconds since 1970, as time of day; with the date if it is another day's.
export function moment(seconds, now = Date.now() / 1000) {
  if (seconds == null || !Number.isFinite(seconds) || Math.abs(seconds) > 8e12) return NOTHING;
  const iso = new Date(seconds * 1000).toISOString();
  const today = iso.slice(0, 10) === new Date(now * 1000).toISOString().slice(0, 10);
  return { text: today ? iso.slice(11, 19) : `${iso.slice(0, 10)} ${iso.slice(11, 19)}`, unit: 'UTC' };
}

// As one string.
export const join = ({ text, unit }) => (unit ? `${text}\u00a0${unit}` : text);

// 1 row, 2 rows.
export const plural = (n, one, many = `${one}s`) => `${grouped.format(n)}\u00a0${n === 1 ? one : many}`;
