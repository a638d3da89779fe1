// A sketch map of a journey: two places, the way between them over ground, distance, time and speed. Offline: a graticule with
// coordinates, and some cities to find one's way by.

import { el, svg } from './dom.js';
import { count, duration, join, moment } from './format.js';

const [WIDTH, HEIGHT] = [560, 300];
const LEAST = 5; // degrees that are shown at least

// [name, latitude, longitude]
const CITIES = [
  ['Seattle', 47.6, -122.3], ['Portland', 45.5, -122.7], ['San Francisco', 37.8, -122.4], ['Los Angeles', 34.1, -118.2], ['Las Vegas', 36.2, -115.1],
  ['Phoenix', 33.4, -112.1], ['Salt Lake City', 40.8, -111.9], ['Billings', 45.8, -108.5], ['Denver', 39.7, -105], ['El Paso', 31.8, -106.5],
  ['Dallas', 32.8, -96.8], ['Houston', 29.8, -95.4], ['Kansas City', 39.1, -94.6], ['Minneapolis', 45, -93.3], ['Chicago', 41.9, -87.6],
  ['New Orleans', 30, -90.1], ['Nashville', 36.2, -86.8], ['Atlanta', 33.7, -84.4], ['Miami', 25.8, -80.2], ['Detroit', 42.3, -83],
  ['Toronto', 43.7, -79.4], ['Washington', 38.9, -77], ['New York', 40.7, -74], ['Boston', 42.4, -71.1], ['Mexico City', 19.4, -99.1],
  ['São Paulo', -23.6, -46.6], ['Buenos Aires', -34.6, -58.4], ['London', 51.5, -0.1], ['Paris', 48.9, 2.4], ['Madrid', 40.4, -3.7], ['Berlin', 52.5, 13.4],
  ['Rome', 41.9, 12.5], ['Istanbul', 41, 29], ['Moscow', 55.8, 37.6], ['Cairo', 30, 31.2], ['Lagos', 6.5, 3.4], ['Nairobi', -1.3, 36.8],
  ['Johannesburg', -26.2, 28], ['Dubai', 25.2, 55.3], ['Mumbai', 19.1, 72.9], ['Delhi', 28.6, 77.2], ['Singapore', 1.4, 103.8], ['Beijing', 39.9, 116.4],
  ['Tokyo', 35.7, 139.7], ['Sydney', -33.9, 151.2],
];

// alert: a row of fraud_alerts. Gives the picture and the sentence beside it.
export function journey(alert) {
  const { location: to, prev_location: from, distance_km: km, time_diff_seconds: seconds, velocity_kmh: speed } = alert;
  if (!to || to.lat == null) return [el('p', { class: 'note' }, 'This alert has no place.')];
  const far = from && from.lat != null;
  const said = far
    ? `${join(count(km, 'km'))} in ${join(duration(seconds))} = ${join(count(speed, 'km/h'))}`
    : 'There was no transaction before it.';
  const [then, now] = [alert.prev_timestamp, alert.timestamp].map((t) => join(moment(Date.parse(`${t}`.replace(/Z?$/, 'Z')) / 1000)));
  return [
    el('p', { class: 'journey' }, el('strong', { 'data-number': 'journey' }, said)),
    picture(far ? from : to, to, `Map: ${far ? `from ${place(from)} at ${then} to ` : ''}${place(to)} at ${now}. ${said}`),
    el('ol', { class: 'ends' }, ...(far ? [el('li', {}, `${place(from)} at ${then}`)] : []), el('li', {}, `${place(to)} at ${now}`)),
  ];
}

const place = ({ lat, lon }) => `${degrees(lat, 'N', 'S', 2)} ${degrees(lon, 'E', 'W', 2)}`;
const degrees = (value, plus, minus, digits = 0) => `${Math.abs(value).toFixed(digits)}°\u00a0${value < 0 ? minus : plus}`;

function picture(from, to, label) {
  const east = from.lon + ((((to.lon - from.lon) % 360) + 540) % 360) - 180; // the short way round
  const middle = { lat: (from.lat + to.lat) / 2, lon: (from.lon + east) / 2 };
  const squeeze = Math.max(0.2, Math.cos((middle.lat * Math.PI) / 180));
  const high = Math.max(LEAST, Math.abs(to.lat - from.lat) * 1.7, (Math.abs(east - from.lon) * squeeze * 1.5 * HEIGHT) / WIDTH);
  const scale = HEIGHT / high; // pixels a degree of latitude
  const x = (lon) => WIDTH / 2 + (lon - middle.lon) * scale * squeeze;
  const y = (lat) => HEIGHT / 2 - (lat - middle.lat) * scale;
  const step = (range, most) => [0.5, 1, 2, 5, 10, 20, 30].find((s) => range / s <= most) ?? 45;
  const wide = WIDTH / (scale * squeeze);
  return svg('svg', { class: 'map', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label },
    ...lines(middle.lat, high, step(high, 6)).map((lat) => parallel(lat, y(lat))),
    ...lines(middle.lon, wide, step(wide, 8)).map((lon) => meridian(lon, x(lon))),
    ...CITIES.flatMap(([name, lat, lon]) => city(name, x(lon + 360 * Math.round((middle.lon - lon) / 360)), y(lat))),
    svg('path', { class: 'way', d: way(from, { lat: to.lat, lon: east }).map(([lat, lon], i) => `${i ? 'L' : 'M'}${x(lon).toFixed(1)} ${y(lat).toFixed(1)}`).join('') }),
    end(x(from.lon), y(from.lat), '1'), end(x(east), y(to.lat), '2'));
}

function lines(middle, range, step) {
  const first = Math.ceil((middle - range / 2) / step) * step;
  return Array.from({ length: Math.floor((middle + range / 2 - first) / step) + 1 }, (_, i) => first + i * step);
}

function parallel(lat, y) {
  return svg('g', {}, svg('line', { class: 'grid', x1: 0, x2: WIDTH, y1: y, y2: y }), svg('text', { class: 'tick', x: 6, y: y - 4 }, degrees(lat, 'N', 'S', lat % 1 ? 1 : 0)));
}

function meridian(lon, x) {
  const turned = ((((lon + 180) % 360) + 360) % 360) - 180;
  return svg('g', {}, svg('line', { class: 'grid', x1: x, x2: x, y1: 0, y2: HEIGHT }), svg('text', { class: 'tick', x: x + 4, y: HEIGHT - 6 }, degrees(turned, 'E', 'W', lon % 1 ? 1 : 0)));
}

function city(name, x, y) {
  if (x < 4 || x > WIDTH - 70 || y < 12 || y > HEIGHT - 20) return [];
  return [svg('circle', { class: 'city', cx: x, cy: y, r: 2 }), svg('text', { class: 'city', x: x + 5, y: y + 3 }, name)];
}

const end = (x, y, text) => svg('g', { class: 'end' }, svg('circle', { cx: x, cy: y, r: 9 }), svg('text', { x, y: y + 4, 'text-anchor': 'middle' }, text));

// The great circle between two places.
function way(from, to) {
  const radians = (d) => (d * Math.PI) / 180;
  const vector = ({ lat, lon }) => [Math.cos(radians(lat)) * Math.cos(radians(lon)), Math.cos(radians(lat)) * Math.sin(radians(lon)), Math.sin(radians(lat))];
  const [a, b] = [vector(from), vector(to)];
  const angle = Math.acos(Math.min(1, Math.max(-1, a[0] * b[0] + a[1] * b[1] + a[2] * b[2])));
  if (angle < 1e-4) return [[from.lat, from.lon], [to.lat, to.lon]];
  return Array.from({ length: 33 }, (_, i) => {
    const [s, t] = [Math.sin((1 - i / 32) * angle), Math.sin((i / 32) * angle)].map((v) => v / Math.sin(angle));
    const [px, py, pz] = a.map((v, k) => s * v + t * b[k]);
    const lon = (Math.atan2(py, px) * 180) / Math.PI;
    return [(Math.asin(pz) * 180) / Math.PI, lon + 360 * Math.round((from.lon + ((to.lon - from.lon) * i) / 32 - lon) / 360)];
  });
}
