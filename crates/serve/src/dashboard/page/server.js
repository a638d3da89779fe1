// Asks the running process: this origin only. Where it wants a token, the browser asks for it before the page is there, and sends it.

const PATIENCE = 5000; // milliseconds

export class Denied extends Error {}

// The origin, since the page's own address may hold a password, with which nothing can be fetched.
const request = (path, options) => fetch(location.origin + path, { cache: 'no-store', ...options });

// The answer of a GET; null where the process has no such thing (404), or cannot tell it yet (503).
async function get(path, accept, read) {
  const answer = await request(path, { headers: { Accept: accept }, signal: AbortSignal.timeout(PATIENCE) });
  if (answer.status === 401 || answer.status === 403) throw new Denied();
  if (answer.status === 404 || answer.status === 503) return null;
  if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
  return read(answer);
}

export const json = (path) => get(path, 'application/json', (answer) => answer.json());

// Text, and the time of the server in seconds since 1970. Its header has whole seconds: where the clocks agree, ours is finer.
export const text = (path) =>
  get(path, 'text/plain', async (answer) => {
    const [here, there] = [Date.now() / 1000, Date.parse(answer.headers.get('Date')) / 1000];
    return { text: await answer.text(), at: Math.abs(here - there) > 3 ? there + 0.5 : here };
  });

// Rows of a query: objects.
export async function sql(query) {
  const answer = await request('/api/v1/sql', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
    body: JSON.stringify({ query, limit: 100 }),
    signal: AbortSignal.timeout(PATIENCE),
  });
  return answer.ok ? (await answer.json()).rows : null;
}

// How the pipeline ended: answered when it does, then the process goes. Null if there was no answer.
export async function end() {
  try {
    const answer = await request('/dashboard/end');
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

// Server-sent events, for ever: connects again when the connection is gone. Not EventSource, which gives up at a 503.
export async function follow(path, take) {
  for (let wait = 1000; ; wait = Math.min(wait * 2, 15000)) {
    try {
      const answer = await request(path, { headers: { Accept: 'text/event-stream' } });
      if (answer.ok && answer.body) {
        wait = 1000;
        await readEvents(answer.body.pipeThrough(new TextDecoderStream()).getReader(), take);
      }
    } catch {
      // The process is gone: main.js tells it.
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function readEvents(reader, take) {
  for (let rest = ''; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value.replaceAll('\r\n', '\n')).split('\n\n');
    rest = events.pop();
    for (const event of events) {
      const fields = event.split('\n').map((line) => line.match(/^(\w+): ?(.*)$/)).filter(Boolean);
      const data = fields.filter((f) => f[1] === 'data').map((f) => f[2]).join('\n');
      if (data) take(fields.find((f) => f[1] === 'event')?.[2] ?? 'message', JSON.parse(data));
    }
  }
}
