// The page: one conversation, the tree of the turn that is looked at, and its evidence.

import { $, h, plural } from "./dom.js";
import { Evidence } from "./evidence.js";
import { Refused, Unauthorized, followQuestion, getJson, post, setToken } from "./net.js";
import { Steps } from "./steps.js";
import { TreeView, reduce } from "./tree.js";

const turns = []; // {question, events, answer, body, element}: what was asked, what happened, what came of it
let shown = null; // the turn that tree and evidence show
let running = null; // {run, controller} while a question is under way
let drawing = false;

const tree = new TreeView({ onSelect: (id) => lightFor([id]) });
const steps = new Steps({ onStep: (count) => tree.show(reduce(shown.events.slice(0, count))) });
const evidence = new Evidence({ onLight: lightPassages, onPick: (id) => { openPane("tree-pane"); tree.select(id, { focus: true }); } });

// --- lighting: a citation, its card and its way through the tree belong together

function lightPassages(passages) {
  const wanted = new Set(passages);
  const nodes = [...tree.state.nodes.values()].filter(({ passage_id: passage }) => passage && wanted.has(passage)).map(({ node_id: id }) => id);
  tree.light(nodes);
  evidence.light(passages);
  for (const mark of document.querySelectorAll(".cite")) mark.classList.toggle("lit", wanted.has(mark.dataset.passage));
}

function lightFor(ids) {
  lightPassages(ids.map((id) => tree.state.nodes.get(id)?.passage_id).filter(Boolean));
  if (ids.length) tree.light(ids);
}

// --- asking

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (question && !running) ask(question).catch(failed);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("clear").addEventListener("click", () => {
  running?.controller.abort();
  turns.length = 0;
  show(null);
  welcome();
  $("question").focus();
});
$("stop").addEventListener("click", () => {
  $("stop").disabled = true;
  if (running?.run) post(`/runs/${running.run}/stop`).catch(failed);
});

async function ask(question) {
  const body = { question, stream: true, index: $("index").value || null, history: history(), ...options() };
  const turn = { question, body, events: [], answer: null, element: h("div", { class: "message assistant" }, h("span", { class: "thinking" }, "Searching…")) };
  if (!turns.length) $("messages").replaceChildren();
  turns.push(turn);
  const asked = h("div", { class: "message user" }, question);
  $("messages").append(asked, turn.element);
  asked.scrollIntoView({ block: "start" });
  $("question").value = "";
  tree.reset();
  show(turn);
  running = { run: null, controller: new AbortController() };
  busy(true);
  const clock = setInterval(() => meter(turn), 250);
  turn.started = performance.now();
  try {
    await followQuestion(body, { signal: running.controller.signal, onRun: (run) => { running.run = run; }, onEvent: (event) => hear(turn, event) });
  } catch (error) {
    if (error instanceof Unauthorized) throw error;
    if (error.name !== "AbortError") fail(turn, error instanceof Refused ? error.message : `The server cannot be reached: ${error.message}`);
  } finally {
    clearInterval(clock);
    running = null;
    busy(false);
  }
}

function options() {
  const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  const list = (id) => $(id).value.split(",").map((part) => part.trim()).filter(Boolean);
  const filters = Object.fromEntries(list("filters").map((pair) => pair.split("=").map((part) => part.trim())).filter(([key, value]) => key && value !== undefined));
  return { k: number("k") || 10, filters, excluded_ids: list("excluded"), budget: { max_calls: number("max-calls"), max_seconds: number("max-seconds") } };
}

function history() {
  return turns.filter(({ answer }) => answer).slice(-10).flatMap(({ question, answer }) => [{ role: "user", text: question }, { role: "assistant", text: answer.text }]);
}

function hear(turn, event) {
  turn.events.push(event);
  const { kind, payload } = event;
  if (kind === "token") {
    if (!turn.writing) {
      turn.writing = h("span", {});
      turn.element.replaceChildren(turn.writing);
    }
    turn.writing.append(payload.text);
  } else if (kind === "result") {
    turn.answer = payload;
    finish(turn);
  } else if (kind === "error") {
    fail(turn, payload.hint ? `${payload.message} ${payload.hint}` : payload.message);
  } else if (kind === "cancelled") {
    fail(turn, "The search was cancelled.");
  }
  if (turn === shown) redraw();
}

/** Draw once a frame, however fast events come. */
function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (!shown) return;
    const state = reduce(shown.events);
    tree.show(state);
    steps.show(shown.events);
    announce(state);
    meter(shown);
  });
}

function announce(state) {
  const done = shown.answer;
  const reasons = { decided: "decided", exhausted: "everything was read", budget: "ended early" };
  $("status").textContent = done
    ? `${plural(state.judged, "slate")} judged; ${reasons[state.stopped?.reason] ?? ""}`
    : state.slates ? `slate ${state.slates}: ${plural(state.judging.size, "candidate")} before the judge` : "";
}

function meter(turn) {
  $("meter").hidden = !running || turn !== turns.at(-1);
  const { max_calls: calls, max_seconds: seconds } = turn.body.budget;
  const spent = turn.events.filter(({ kind }) => kind === "judged").length;
  const tokens = turn.events.reduce((sum, { kind, payload }) => sum + (kind === "judged" ? payload.usage.input_tokens + payload.usage.output_tokens : 0), 0);
  const elapsed = (performance.now() - turn.started) / 1000;
  const parts = [calls ? `${spent} of ${calls} slates` : plural(spent, "slate"), tokens ? plural(tokens, "token") : null, seconds ? `${elapsed.toFixed(0)} of ${seconds} s` : `${elapsed.toFixed(0)} s`];
  $("meter-text").textContent = parts.filter(Boolean).join(" · ");
  const share = Math.max(calls ? spent / calls : 0, seconds ? elapsed / seconds : 0);
  if (calls || seconds) $("meter-bar").value = Math.min(1, share);
  else $("meter-bar").removeAttribute("value");
}

function busy(on) {
  $("send").disabled = on;
  $("stop").disabled = false;
  $("meter").hidden = !on;
}

// --- answers

function finish(turn) {
  const { text, citations, found, reader, usage, search, notes } = turn.answer;
  const byNumber = new Map(citations.map((citation) => [citation.number, citation]));
  const pieces = text.split(/(\[\d+\])/).map((piece) => {
    const citation = byNumber.get(Number(piece.match(/^\[(\d+)\]$/)?.[1]));
    return citation ? cite(citation) : piece;
  });
  const paid = usage.input_tokens + usage.output_tokens;
  const spent = [plural(search.slates ?? 0, "slate"), paid ? plural(paid, "token") : null, usage.cost ? `${usage.cost.toFixed(4)} in money` : null, `${usage.seconds.toFixed(2)} s`];
  const foot = [reader === "extractive" ? "extractive, no model" : `written by ${reader}`, `judged by ${search.judge}`, ...spent.filter(Boolean), search.partial ? "ended early" : null];
  turn.element.replaceChildren(
    ...pieces,
    ...notes.map((note) => h("span", { class: "quiet foot" }, note)),
    h("span", { class: "quiet foot" }, foot.filter(Boolean).join(" · ")),
  );
  turn.element.classList.toggle("unfound", !found);
  turn.element.addEventListener("click", () => show(turn));
  if (turn === shown) evidence.show(turn.answer, turn.body);
}

function cite(citation) {
  const on = () => lightPassages([citation.passage_id]);
  const off = () => lightPassages([]);
  return h("button", {
    class: "cite", type: "button", "data-passage": citation.passage_id, "aria-label": `Citation ${citation.number}: ${citation.title || citation.doc_id}`,
    onmouseenter: on, onmouseleave: off, onfocus: on, onblur: off,
    onclick: () => { openPane("evidence"); evidence.reveal(citation.number); on(); },
  }, String(citation.number));
}

function fail(turn, message) {
  turn.element.classList.add("failed");
  turn.element.setAttribute("role", "alert");
  turn.element.replaceChildren(message);
}

function show(turn) {
  if (turn === shown && turn !== null) return;
  shown = turn;
  steps.pause();
  $("status").textContent = "";
  tree.reset();
  tree.show(reduce(turn?.events ?? []));
  steps.show(turn?.events ?? []);
  if (turn?.answer) evidence.show(turn.answer, turn.body);
  else evidence.clear();
}

// --- the frame around it

function openPane(id) {
  document.querySelector("main").dataset.pane = id;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const on = tab.getAttribute("aria-controls") === id;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
  }
}
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => openPane(tab.getAttribute("aria-controls")));
  tab.addEventListener("keydown", ({ key }) => {
    const next = { ArrowRight: tab.nextElementSibling, ArrowLeft: tab.previousElementSibling }[key];
    next?.click();
    next?.focus();
  });
}

const THEME = "branchwise-theme";
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}
setTheme(localStorage.getItem(THEME));
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  localStorage.setItem(THEME, dark ? "light" : "dark");
  setTheme(dark ? "light" : "dark");
});

function welcome() {
  $("messages").replaceChildren(h("div", { class: "welcome" }, h("h3", {}, "Ask these documents"), h("p", {}, "A judge walks a tree of summaries towards the passages that answer. Every quote is checked against the stored text, and every step can be looked at.")));
}

let offered = [];
function tellIndex() {
  const chosen = offered.find(({ name }) => name === $("index").value);
  if (!chosen) return;
  $("backend").textContent = chosen.model ? `model: ${chosen.model}` : "embedded: no model is used";
  const { passages, documents } = chosen.counts;
  $("size").textContent = [documents !== undefined ? plural(documents, "document") : null, passages !== undefined ? plural(passages, "passage") : null].filter(Boolean).join(", ");
}
$("index").addEventListener("change", tellIndex);

async function start() {
  const place = new URLSearchParams(location.hash.slice(1));
  if (place.get("token")) setToken(place.get("token"));
  if (location.hash) window.history.replaceState(null, "", location.pathname);
  ({ indexes: offered } = await getJson("/indexes"));
  $("index").replaceChildren(...offered.map(({ name, title }) => h("option", { value: name }, title || name)));
  if (offered.some(({ name }) => name === place.get("index"))) $("index").value = place.get("index");
  tellIndex();
  if (place.get("doc")) evidence.open({ doc_id: place.get("doc"), start: Number(place.get("start")) || 0, end: Number(place.get("end")) || 0 }, { index: $("index").value });
}

function failed(error) {
  if (error instanceof Unauthorized) {
    $("token-dialog").showModal();
    return;
  }
  $("backend").textContent = error.message;
}
$("token-form").addEventListener("submit", () => {
  setToken($("token").value);
  start().catch(failed);
});

welcome();
start().catch(failed);
