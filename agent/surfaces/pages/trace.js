const { nodes, steps } = data;
const PATH = 2; // of [latent score, its standard deviation, path relevance]
const done = steps.map((step, number) => ({ ...step, number })).filter((step) => step.done);

function shown(score) {
  if (score === null || score === undefined) return "";
  return score >= 0.995 ? "1.0" : score.toFixed(2).replace(/^0/, "").replace(/^-0/, "-");
}

function title(id) {
  return nodes[id] ? nodes[id].title || id : id;
}

// What was known after `count` replies: each node's own last score and reason, and the values inferred from all scores.
function knownAfter(count) {
  const known = { local: {}, reason: {}, latent: {}, opened: new Set(), asked: new Set(), fresh: new Set() };
  done.slice(0, count).forEach((step, at) => {
    if (step.parent) known.opened.add(step.parent);
    for (const id of step.candidates) known.asked.add(id);
    for (const [id, score] of Object.entries(step.scores)) if (score !== null) known.local[id] = score;
    for (const [id, reason] of Object.entries(step.reasons || {})) if (reason) known.reason[id] = reason;
    Object.assign(known.latent, step.nodes); // only what this reply has changed
    if (at === count - 1) known.fresh = new Set(step.candidates);
  });
  return known;
}

function bar(kind, score, label) {
  if (score === null || score === undefined) return element("div", { class: "bar none" });
  const fill = element("i", { class: kind });
  fill.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
  return element("div", { class: "bar number", title: `${label} ${shown(score)}` }, fill, element("span", { text: shown(score) }));
}

function bars(id, known) {
  const [theta, , path] = known.latent[id] || [];
  return element("div", { class: "bars" },
    bar("local", known.local[id], "judge"), bar("calibrated", theta, "calibrated"), bar("path", path, "path"));
}

function why(id, known, last) {
  const node = nodes[id];
  if (known.reason[id]) return known.reason[id];
  if (!last || node.passage !== null || known.opened.has(id)) return "";
  if (known.asked.has(id)) return `Not opened: ${data.stopped}.`;
  return id === data.root || touched(id, known) ? "" : "Never shown to the judge, nor anything below it.";
}

const below = {};
for (const [id, node] of Object.entries(nodes)) if (node.parent) (below[node.parent] = below[node.parent] || []).push(id);

function draw(id, known, last) {
  const node = nodes[id];
  const leaf = node.passage !== null;
  const opened = known.opened.has(id) || (id === data.root && below[id]);
  const read = known.asked.has(id) || known.local[id] !== undefined;
  const kind = leaf ? (read ? "leaf" : "unread") : opened ? "opened" : read ? "judged" : "unread";
  const mark = { leaf: "◆", unread: "◇", opened: "●", judged: "○" }[kind];
  const name = element("div", { class: "name", title: node.text }, element("span", { text: title(id) }));
  if (!leaf) name.append(element("span", { class: "badge number", text: plural(node.leaves, "passage") }));
  if (last && node.rank) name.append(element("span", { class: "badge number", text: `hit ${node.rank}` }));
  if (node.gold) name.append(element("span", { class: "badge gold", text: "★ relevant" }));
  const row = element("div", { class: `row ${kind} ${read || opened ? "" : "quiet"} ${known.fresh.has(id) ? "fresh" : ""}` },
    element("span", { class: `mark ${node.gold ? "gold" : kind}`, text: mark }), name, bars(id, known));
  const said = why(id, known, last);
  if (said) row.append(element("div", { class: "why", text: said }));
  const holder = element("div", { class: "node", role: "listitem" }, row);
  const children = (below[id] || []).filter((child) => last || seen(child, known));
  children.sort((a, b) => best(b, known) - best(a, known));
  if (children.length) holder.append(element("div", { role: "list" }, ...children.map((child) => draw(child, known, last))));
  if (last && data.hidden[id]) {
    const count = data.hidden[id];
    holder.append(element("p", { class: "why soft small", text: `${plural(count, "more child", "more children")} not shown to the judge` }));
  }
  return holder;
}

// How good the best passage at or below a node is: hits by rank, then path relevance. Good branches are drawn first.
function best(id, known) {
  const { passage, rank } = nodes[id];
  const own = rank ? 1 + 1 / rank : (known.latent[id] || [])[PATH] ?? known.local[id] ?? -1;
  return Math.max(passage === null ? -1 : own, ...(below[id] || []).map((child) => best(child, known)));
}

function touched(id, known) {
  return (below[id] || []).some((child) => known.asked.has(child) || touched(child, known));
}

function seen(id, known) {
  return known.asked.has(id) || known.opened.has(id) || known.local[id] !== undefined
    || (below[id] || []).some((child) => seen(child, known));
}

function drawStep(count) {
  if (!count) {
    const seeds = Object.keys(nodes).filter((id) => nodes[id].seed).slice(0, 20);
    return [element("h2", { text: "Before the first call" }),
      element("p", { class: "soft", text: seeds.length ? "The best leaves of BM25 and vectors:" : "Nothing is known." }),
      element("ol", {}, ...seeds.map((id) => element("li", {}, element("span"), element("b", { text: title(id) }))))];
  }
  const step = done[count - 1];
  const item = (id, kind) => element("li", { class: kind },
    element("span", { class: "number", text: shown(step.scores[id]) || "–" }),
    element("div", {}, element("b", { text: title(id) }),
      kind === "anchor" ? element("span", { class: "badge", text: "shown again" }) : null,
      step.reasons[id] ? element("span", { class: "reason", text: step.reasons[id] }) : null));
  const best = [...step.candidates].sort((a, b) => (step.scores[b] ?? -1) - (step.scores[a] ?? -1));
  const what = step.parent ? `Opened: ${title(step.parent)}` : step.kind === "leaf" ? "Passages side by side" : "Clusters side by side";
  return [element("h2", { text: what }),
    element("p", { class: "soft small", text: [step.why, step.judge && `judge: ${step.judge}`, step.weak && "stood in for a model that failed"]
      .filter(Boolean).join(" · ") }),
    element("ol", {}, ...best.map((id) => item(id, "")), ...step.anchors.map((id) => item(id, "anchor")))];
}

const slider = document.getElementById("step");
function show(count) {
  slider.value = count;
  const known = knownAfter(count), last = count === done.length;
  document.getElementById("at").textContent = `${count} of ${plural(done.length, "call")}`;
  document.getElementById("now").replaceChildren(...drawStep(count));
  document.getElementById("tree").replaceChildren(...(data.root && nodes[data.root] ? [draw(data.root, known, last)] : []));
}
slider.max = done.length;
slider.addEventListener("input", () => show(Number(slider.value)));
document.getElementById("back").addEventListener("click", () => show(Math.max(0, Number(slider.value) - 1)));
document.getElementById("on").addEventListener("click", () => show(Math.min(done.length, Number(slider.value) + 1)));

document.getElementById("title").textContent = data.title;
document.getElementById("facts").textContent = [
  data.judges.length ? `judge: ${data.judges.join(", ")}` : "nothing was judged",
  plural(done.length, "call"),
  data.stopped && `stopped: ${data.stopped}`,
  data.partial && "partial",
  ...data.notes,
].filter(Boolean).join(" · ");

function table(heading, columns, rows) {
  return [element("h2", { text: heading }), element("table", {},
    element("thead", {}, element("tr", {}, ...columns.map((name) => element("th", { class: "small soft", text: name })))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell, at) =>
      element("td", { class: at === 0 ? "number" : "", text: cell }))))))];
}

if (data.gold.length) document.getElementById("gold").replaceChildren(...table("What became of the relevant passages",
  ["rank", "passage", "what happened"], data.gold.map((one) => [one.rank || "–", title(one.node_id),
    one.lost_at ? `${one.why}: ${title(one.lost_at)}` : one.why])));
if (data.ranking.length) document.getElementById("hits").replaceChildren(...table("Hits",
  ["score", "passage", ""], data.ranking.slice(0, 50).map((hit) => [shown(hit.score), title(hit.node_id),
    nodes[hit.node_id].gold ? "★ relevant" : ""])));
show(done.length);
