// Talks to the server: JSON, and events that survive a broken connection.

const KEY = "branchwise-token";
const FINAL = new Set(["result", "error", "cancelled"]);
const TRIES = 6;

export class Unauthorized extends Error {}
export class Refused extends Error {}

export function setToken(token) {
  sessionStorage.setItem(KEY, token);
}

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, authorization: `Bearer ${token}` } : more;
}

async function checked(response) {
  if (response.ok) return response;
  if (response.status === 401) throw new Unauthorized();
  let said = `${response.status} ${response.statusText}`;
  try {
    const { error } = await response.json();
    said = error.hint ? `${error.message} (${error.hint})` : error.message;
  } catch { /* the body is no JSON: the status line has to do */ }
  throw new Refused(said);
}

export async function getJson(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null);
  const query = new URLSearchParams(given.flatMap(([name, value]) => [value].flat().map((one) => [name, one])));
  const response = await fetch(`${path}?${query}`, { headers: headers() });
  return (await checked(response)).json();
}

export async function post(path) {
  return (await checked(await fetch(path, { method: "POST", headers: headers() }))).json();
}

/** Ask; `onRun` learns the run's id, `onEvent` every event, in order and once, whatever the connection does. */
export async function followQuestion(body, { onRun, onEvent, signal }) {
  let last = -1;
  let run = null;
  let finished = false;
  const hear = (event) => {
    if (event.seq <= last) return;
    last = event.seq;
    finished = FINAL.has(event.kind);
    onEvent(event);
  };
  for (let tried = 0; !finished; tried += 1) {
    const before = last;
    try {
      const response = run === null
        ? await fetch("/ask", { method: "POST", signal, headers: headers({ "content-type": "application/json" }), body: JSON.stringify(body) })
        : await fetch(`/runs/${run}/events`, { signal, headers: headers({ "last-event-id": String(last) }) });
      await checked(response);
      if (run === null) {
        run = response.headers.get("x-run-id");
        onRun(run);
      }
      for await (const event of readEvents(response.body)) hear(event);
    } catch (error) {
      if (error instanceof Refused || error instanceof Unauthorized || signal.aborted || run === null || tried >= TRIES) throw error;
    }
    if (last > before) tried = 0;
    if (!finished) {
      if (tried >= TRIES) throw new Error("the connection was lost");
      await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** tried));
    }
  }
}

/** Server-sent events out of a response body; a frame that the connection cut in half is left out. */
async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const frames = rest.split(/\r?\n\r?\n/);
    rest = frames.pop();
    for (const frame of frames) {
      const data = frame.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (data) yield JSON.parse(data);
    }
  }
}
