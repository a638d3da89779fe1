// What the shipped pipeline found: alerts as they happen, the journey of one, spend by category and by user. It appears where there
// are a sink `fraud_alerts` and a table `transaction_aggregates`.

import { Table, el, find, setText } from './dom.js';
import { count, duration, join, moment, money, plural } from './format.js';
import { journey } from './journey.js';
import { follow, sql } from './server.js';

const KEPT = 40; // alerts in the list
const ASK = 5000; // milliseconds between queries
const RECENT = `FROM transaction_aggregates WHERE window_start >= (SELECT max(window_start) FROM transaction_aggregates) - INTERVAL '10 minutes'`;

let [waiting, chosen, following] = [[], null, false];

const categories = new Table('Spend by category', [
  { id: 'category', head: 'Category', cell: (r) => r.category ?? 'none' },
  { id: 'spent', head: 'Spent', number: true, cell: (r) => ({ ...money(r.spent), share: r.spent / r.most }) },
  { id: 'transactions', head: 'Bought', number: true, cell: (r) => count(r.transactions, 'times') },
], 'No window yet.');

const users = new Table('Users who spent most', [
  { id: 'user', head: 'User', cell: (r) => r.user_id },
  { id: 'spent', head: 'Spent', number: true, cell: (r) => ({ ...money(r.spent), share: r.spent / r.most }) },
  { id: 'transactions', head: 'Bought', number: true, cell: (r) => count(r.transactions, 'times') },
], 'No window yet.');

export function buildFraud() {
  find('categories').append(categories.element, categories.note);
  find('users').append(users.element, users.note);
  const list = find('alerts');
  // While somebody points at the list or is in it, it holds still.
  for (const event of ['pointerleave', 'focusout']) list.addEventListener(event, () => setTimeout(flush));
  find('more-alerts').addEventListener('click', () => flush(true));
}

export function showFraud({ now }) {
  const sinks = now.names('riverrun_sink_rows_total', 'sink');
  if (following || !sinks.includes('fraud_alerts')) return;
  following = true;
  find('fraud-section').hidden = false;
  follow('/api/v1/sinks/fraud_alerts/live?last=20', (event, data) => {
    if (event === 'row' && data.change !== 'delete') take(data.row);
  });
  if (sinks.includes('transaction_aggregates')) ask();
}

function take(alert) {
  waiting.push(alert);
  flush();
}

function flush(force) {
  const list = find('alerts');
  const held = force !== true && (list.matches(':hover') || list.contains(document.activeElement));
  find('more-alerts').hidden = !held || waiting.length === 0;
  if (held) return setText(find('more-alerts'), `Show ${plural(waiting.length, 'new alert')}`);
  for (const alert of waiting.splice(0)) list.prepend(item(alert));
  while (list.children.length > KEPT) list.lastElementChild.remove();
  find('no-alerts').hidden = list.children.length > 0;
  // Until somebody chooses one, the newest with a journey is on the map.
  if (!chosen || !chosen.isConnected) {
    const far = [...list.children].map((li) => li.firstElementChild).find((b) => b.alert.velocity_kmh > 800) ?? list.firstElementChild?.firstElementChild;
    if (far) look(far);
  }
}

function item(alert) {
  const where = alert.distance_km == null ? '' : ` · ${join(count(alert.distance_km, 'km'))} in ${join(duration(alert.time_diff_seconds))}`;
  const reasons = (alert.reasons ?? []).map((r) => el('span', { class: 'reason' }, r.replaceAll('_', ' ').toLowerCase()));
  const button = el('button', { type: 'button', 'aria-pressed': 'false' },
    el('span', { class: 'when' }, time(alert.timestamp)), el('span', { class: 'who' }, alert.user_id), el('span', { class: 'why' }, ...reasons),
    el('span', { class: 'note' }, `${join(money(alert.amount))} at ${alert.merchant ?? 'an unnamed merchant'}${where}`));
  button.alert = alert;
  button.addEventListener('click', () => {
    chosen = button;
    look(button);
  });
  return el('li', { 'data-key': alert.transaction_id }, button);
}

function look(button) {
  for (const other of find('alerts').querySelectorAll('[aria-pressed=true]')) other.setAttribute('aria-pressed', 'false');
  button.setAttribute('aria-pressed', 'true');
  const { alert } = button;
  find('journey').replaceChildren(el('p', { class: 'note' }, `${alert.user_id}, transaction ${alert.transaction_id}, partition ${alert.partition}, offset ${alert.offset}`), ...journey(alert));
}

async function ask() {
  for (;;) {
    if (!document.hidden) {
      const most = (rows) => rows.map((r) => ({ ...r, most: Math.max(...rows.map((o) => o.spent)) }));
      try {
        const [byCategory, byUser] = await Promise.all([
          sql(`SELECT category, sum(total_amount) AS spent, sum(transaction_count) AS transactions ${RECENT} GROUP BY category ORDER BY spent DESC, category`),
          sql(`SELECT user_id, sum(total_amount) AS spent, sum(transaction_count) AS transactions ${RECENT} GROUP BY user_id ORDER BY spent DESC, user_id LIMIT 8`),
        ]);
        if (byCategory) categories.update(most(byCategory).map((r) => [`${r.category}`, r]));
        if (byUser) users.update(most(byUser).map((r) => [r.user_id, r]));
      } catch {
        // Asked again; main.js tells when nobody answers.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, ASK));
  }
}

const time = (text) => moment(Date.parse(`${text}`.replace(/Z?$/, 'Z')) / 1000).text;
