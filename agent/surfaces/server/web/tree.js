// The search tree: what the events say, as a state; the state, as rows. Only what a search touched is ever drawn.

import { $, STATES, glyph, h, plural, score } from "./dom.js";

const SHOWN = 6; // children of a branch that are shown at once, unless they matter

/** The tree after the given events: a pure function, so that any step can be looked at again. */
export function reduce(events) {
  const state = { nodes: new Map(), scores: new Map(), opened: new Set(), judging: new Map(), hits: new Map(), cited: new Map(), seen: new Set(), asked: new Map(), stopped: null, slates: 0, judged: 0 };
  for (const { kind, payload } of events) {
    for (const [id, label] of Object.entries(payload.labels ?? {})) state.nodes.set(id, label);
    STEPS[kind]?.(state, payload);
  }
  return state;
}

const STEPS = {
  slate(state, { slate, parent, candidates, why }) {
    state.slates += 1;
    if (parent) state.opened.add(parent);
    if (parent && why) state.asked.set(parent, why);
    for (const id of candidates) {
      state.seen.add(id);
      state.judging.set(id, slate);
    }
  },
  judged(state, { slate, scores, reasons, weak }) {
    state.judged += 1;
    for (const [id, at] of state.judging) if (at === slate) state.judging.delete(id);
    for (const [id, local] of Object.entries(scores)) {
      if (local === null) continue;
      state.scores.set(id, { ...state.scores.get(id), local, weak, reason: reasons?.[id] || state.scores.get(id)?.reason });
    }
  },
  calibrated(state, { nodes }) {
    for (const [id, [calibrated, sd, path]] of Object.entries(nodes)) state.scores.set(id, { ...state.scores.get(id), calibrated, sd, path });
  },
  hits(state, { hits }) {
    hits.forEach(({ node_id: id, score: value }, position) => {
      state.hits.set(id, { rank: position + 1, score: value });
      state.seen.add(id);
    });
  },
  stopped(state, payload) {
    state.stopped = payload;
    state.judging.clear();
  },
  result(state, { citations = [], search }) {
    const leaves = new Map((search?.hits ?? []).map(({ passage_id: passage, node_id: id }) => [passage, id]));
    for (const { passage_id: passage, number } of citations) if (leaves.has(passage)) state.cited.set(leaves.get(passage), number);
  },
};

/** Ids from a node up to the root. */
export function wayUp(state, id) {
  const way = [];
  for (let at = id; at && !way.includes(at); at = state.nodes.get(at)?.parent) way.push(at);
  return way;
}

function stateOf(state, id) {
  if (state.cited.has(id)) return "cited";
  if (state.hits.has(id)) return "hit";
  if (state.opened.has(id)) return "opened";
  if (state.judging.has(id)) return "judging";
  if (state.scores.get(id)?.local === undefined) return "unjudged";
  return state.nodes.get(id)?.leaf ? "read" : "closed";
}

/** Why a branch stands as it does, in a sentence. */
function story(state, id) {
  const node = state.nodes.get(id);
  const own = state.scores.get(id) ?? {};
  switch (stateOf(state, id)) {
    case "opened": return state.asked.has(id) ? `Opened: ${state.asked.get(id)}.` : "Opened.";
    case "judging": return "The judge is reading it now.";
    case "unjudged": return node.parent ? "Not judged. It is shown because a passage below it was found by its own words." : "The root: the search starts here.";
    case "closed":
      if (!state.stopped) return "Judged; still open to be opened.";
      if (state.stopped.reason === "budget") return `Not opened: the budget ended first (path score ${score(own.path)}).`;
      return `Not opened: at a path score of ${score(own.path)}, nothing below it was expected to change the answer.`;
    case "hit": return `Result ${state.hits.get(id).rank}${own.local === undefined ? ", by its words and its vector: no judge has read it." : "."}`;
    case "cited": return `Cited as [${state.cited.get(id)}].`;
    default: return "Read, and not among the results.";
  }
}

/** The rows of the tree in the order in which they stand, with their depth. */
function* rows(state, view) {
  const children = new Map();
  const shown = new Set([...state.seen, ...state.opened].flatMap((id) => wayUp(state, id)).filter((id) => state.nodes.has(id)));
  for (const id of shown) {
    const parent = state.nodes.get(id).parent ?? null;
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(id);
  }
  const worth = (id) => state.scores.get(id)?.path ?? state.scores.get(id)?.local ?? -1;
  const best = new Map();
  const bestBelow = (id) => {
    if (!best.has(id)) best.set(id, Math.max(worth(id), ...(children.get(id) ?? []).map(bestBelow)));
    return best.get(id);
  };
  const matters = (id) => state.hits.has(id) || state.cited.has(id) || children.has(id) || state.judging.has(id) || view.selected === id;
  function* below(parent, depth, guides) {
    const family = [...(children.get(parent) ?? [])].sort((a, b) => (state.hits.get(a)?.rank ?? 1e9) - (state.hits.get(b)?.rank ?? 1e9) || bestBelow(b) - bestBelow(a) || (a < b ? -1 : 1));
    const all = view.unfolded.has(parent);
    const names = [parent, ...family].map((id) => state.nodes.get(id)?.title ?? "");
    const visible = family.filter((id, at) => all || at < SHOWN || matters(id));
    const hidden = family.length - visible.length;
    for (const [at, id] of visible.entries()) {
      const open = children.has(id) && !view.folded.has(id);
      const last = at === visible.length - 1 && !hidden;
      const lines = depth ? [...guides, !last] : []; // one for each level: does its line go on below this row?
      yield { id, depth, open, inner: children.has(id), position: at + 1, size: family.length, lines, names };
      if (open) yield* below(id, depth + 1, lines);
    }
    if (hidden) yield { more: hidden, depth, parent, lines: [...guides, false] };
  }
  yield* below(null, 0, []);
}

/** The tree on the page. Give it states; it keeps what the reader folded, selected and lit. */
export class TreeView {
  constructor({ onSelect }) {
    this.root = $("tree");
    this.view = { folded: new Set(), unfolded: new Set(), selected: null };
    this.lit = new Set();
    this.onSelect = onSelect;
    this.state = reduce([]);
    this.root.addEventListener("keydown", (event) => this.#onKey(event));
    $("legend-body").append(
      ...Object.entries(STATES).map(([state, text]) => h("div", {}, glyph(state), text)),
      ...[["local", "local: the judge's last score"], ["calibrated", "calibrated: over all its slates"], ["path", "path: with the branches above it"]].map(([kind, text]) => h("div", {}, h("span", { class: `dot ${kind}` }), text)),
    );
  }

  reset() {
    this.view = { folded: new Set(), unfolded: new Set(), selected: null };
    this.lit = new Set();
  }

  show(state) {
    this.state = state;
    this.draw();
  }

  /** Light the way from the root to these nodes. */
  light(ids) {
    this.lit = new Set(ids.flatMap((id) => wayUp(this.state, id)));
    for (const row of this.root.querySelectorAll(".node")) row.classList.toggle("lit", this.lit.has(row.dataset.id));
  }

  select(id, { focus = false } = {}) {
    for (const above of wayUp(this.state, id).slice(1)) this.view.folded.delete(above);
    this.view.selected = id;
    this.draw();
    const row = this.#row(id);
    row?.scrollIntoView({ block: "nearest" });
    if (focus) row?.focus();
    this.onSelect(id);
  }

  draw() {
    const had = document.activeElement?.closest?.(".node")?.dataset.id;
    const found = [...rows(this.state, this.view)];
    $("tree-empty").hidden = found.length > 0;
    this.root.hidden = found.length === 0;
    const active = found.some((row) => row.id === this.view.selected) ? this.view.selected : found[0]?.id;
    this.root.replaceChildren(...found.map((row) => (row.more ? this.#more(row) : this.#node(row, row.id === active))));
    if (had) this.#row(had)?.focus({ preventScroll: true });
    this.#detail();
  }

  #row(id) {
    return [...this.root.querySelectorAll(".node")].find((row) => row.dataset.id === id);
  }

  #more({ more, depth, parent, lines }) {
    const button = h("button", { class: "more", type: "button", onclick: () => { this.view.unfolded.add(parent); this.draw(); } }, `${more} more, judged lower`);
    const row = h("div", { class: "row", role: "none" }, ...guides(lines), button);
    row.style.setProperty("--depth", depth);
    return row;
  }

  #node({ id, depth, open, inner, position, size, lines, names }, active) {
    const node = this.state.nodes.get(id);
    const own = this.state.scores.get(id) ?? {};
    const state = stateOf(this.state, id);
    const name = node.title || node.text?.slice(0, 80) || (depth ? "untitled" : "All documents");
    const [count, unit] = plural(node.leaves, "passage").split(" ");
    const note = node.leaf ? [this.state.hits.has(id) ? `#${this.state.hits.get(id).rank}` : ""] : [count, h("span", { class: "unit" }, ` ${unit}`)];
    const spoken = `${name}. ${STATES[state]}. ${own.local === undefined ? "" : `local ${score(own.local)}, calibrated ${score(own.calibrated)}, path ${score(own.path)}.`}`;
    const row = h("div", {
      class: `row node${this.lit.has(id) ? " lit" : ""}`, role: "treeitem", tabindex: active ? 0 : -1, "aria-level": depth + 1, "aria-posinset": position, "aria-setsize": size,
      "aria-expanded": inner ? String(open) : null, "aria-selected": String(this.view.selected === id), "aria-label": spoken, title: name, "data-id": id, "data-state": state, "data-root": depth === 0,
      onclick: () => this.select(id, { focus: true }), ondblclick: () => this.#fold(id, open),
    }, ...guides(lines), glyph(state), h("span", { class: "label" }, h("span", { class: "name" }, shorten(name, names, node.leaf)), h("span", { class: "count" }, ...note)), bars(own));
    row.style.setProperty("--depth", depth);
    return row;
  }

  #fold(id, fold) {
    this.view.folded[fold ? "add" : "delete"](id);
    this.draw();
  }

  #onKey(event) {
    const items = [...this.root.querySelectorAll(".node")];
    const at = items.indexOf(document.activeElement);
    if (at < 0) return;
    const id = items[at].dataset.id;
    const open = items[at].getAttribute("aria-expanded");
    const go = (row) => row && this.select(row.dataset.id, { focus: true });
    const moves = {
      ArrowDown: () => go(items[at + 1]),
      ArrowUp: () => go(items[at - 1]),
      Home: () => go(items[0]),
      End: () => go(items.at(-1)),
      ArrowRight: () => (open === "false" ? this.#fold(id, false) : open === "true" && go(items[at + 1])),
      ArrowLeft: () => (open === "true" ? this.#fold(id, true) : go(this.#row(this.state.nodes.get(id).parent))),
      Enter: () => this.select(id, { focus: true }),
      " ": () => this.select(id, { focus: true }),
    };
    if (moves[event.key]) {
      event.preventDefault();
      moves[event.key]();
    }
  }

  #detail() {
    const id = this.view.selected;
    const node = this.state.nodes.get(id);
    $("detail").hidden = !node;
    if (!node) return;
    const own = this.state.scores.get(id) ?? {};
    const figure = (kind, value) => h("span", {}, h("span", { class: `dot ${kind}` }), `${kind} `, h("b", {}, score(value)));
    $("detail").replaceChildren(...[
      h("h3", {}, node.title || "All documents"),
      h("div", { class: "scores" }, figure("local", own.local), figure("calibrated", own.calibrated), figure("path", own.path), own.sd === undefined ? null : h("span", { class: "quiet" }, `± ${score(own.sd)}`)),
      h("p", {}, story(this.state, id)),
      own.reason ? h("p", {}, h("b", {}, "The judge: "), own.reason) : null,
      own.weak ? h("p", { class: "quiet" }, "The model failed here; the embedded judge stood in.") : null,
      node.leaf && node.text ? h("p", { class: "quiet" }, node.text) : null,
    ].filter(Boolean));
  }
}

/** The lines of the levels above a row, where they go on below it. */
function guides(lines) {
  return lines.flatMap((goesOn, at) => {
    if (!goesOn) return [];
    const guide = h("span", { class: "guide", "aria-hidden": "true" });
    guide.style.setProperty("--at", at + 1);
    return [guide];
  });
}

const SEAMS = /(?<=[./\\:])|(?<= [-–—>›|] )|(?<=: )/;

/** A name too long for a row, cut from the left: what it shares with its parent goes first, and a
 * leaf's with its siblings. */
function shorten(name, family, leaf) {
  if (name.length <= 30) return name;
  const parts = name.split(SEAMS);
  let kept = parts.pop();
  const [parent, ...siblings] = family;
  const others = leaf ? [parent, ...siblings.filter((other) => other !== name)] : [parent];
  const shared = (tail) => others.some((other) => other.startsWith(name.slice(0, name.length - tail.length)));
  while (parts.length && (!shared(kept) || kept.length < 8) && kept.length + parts.at(-1).length <= 60) kept = parts.pop() + kept;
  return parts.length && shared(kept) ? `… ${kept}` : name;
}

function bars(own) {
  const bar = (kind, value) => {
    const fill = h("div", { class: `fill ${kind}` });
    fill.style.transform = `scaleX(${Math.max(0, Math.min(1, value ?? 0))})`;
    return h("div", { class: "track" }, fill);
  };
  if (own.local === undefined) return h("span", {});
  return h("span", { class: "bars", title: `local ${score(own.local)}, calibrated ${score(own.calibrated)}, path ${score(own.path)}`, "aria-hidden": "true" }, bar("local", own.local), bar("calibrated", own.calibrated), bar("path", own.path));
}
