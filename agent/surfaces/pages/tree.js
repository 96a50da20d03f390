// A node is [id, title, text, leaves, passage id or null, places of children, place of the home parent or -1].
const [ID, TITLE, TEXT, LEAVES, PASSAGE, CHILDREN, PARENT] = [0, 1, 2, 3, 4, 5, 6];
const SHOWN = 100; // matches listed at once
const nodes = data.nodes;
const drawn = new Map();

function label(place) {
  const node = nodes[place];
  return node[TITLE] || (node[PASSAGE] ? node[TEXT].slice(0, 80) : node[ID]);
}

// The beginning of a node's text, without a title that it only repeats.
function gist(node) {
  const text = node[TEXT].startsWith(node[TITLE]) ? node[TEXT].slice(node[TITLE].length) : node[TEXT];
  return text.replace(/^[\s,.:;-]+/, "").slice(0, 240);
}

function draw(place) {
  const node = nodes[place];
  const leaf = node[PASSAGE] !== null;
  const summary = element("summary", {},
    element("span", { class: "name", text: label(place) }),
    leaf ? null : element("span", { class: "size number", text: plural(node[LEAVES], "passage") }),
    element("span", { class: "gist", text: gist(node) }));
  const branch = element("details", { class: leaf ? "leaf" : "inner" }, summary);
  branch.addEventListener("toggle", () => branch.open && fill(branch, place));
  drawn.set(place, branch);
  return branch;
}

// Children are made when they are first asked for: a page of a hundred thousand passages opens at once.
function fill(branch, place) {
  if (branch.dataset.full) return;
  branch.dataset.full = "1";
  const node = nodes[place];
  const text = element("p", { class: "text", text: node[TEXT] });
  if (node[PASSAGE] !== null) text.append(element("br"), element("code", { text: node[PASSAGE] }));
  branch.append(text);
  if (node[CHILDREN].length) branch.append(element("div", { class: "below" }, ...node[CHILDREN].map(draw)));
}

function wayTo(place) {
  const way = [];
  for (let at = place; at >= 0 && !way.includes(at); at = nodes[at][PARENT]) way.unshift(at);
  return way;
}

function reveal(place) {
  query.value = "";
  showTree();
  for (const step of wayTo(place)) {
    const branch = drawn.get(step);
    fill(branch, step);
    branch.open = true;
  }
  for (const old of document.querySelectorAll(".here")) old.classList.remove("here");
  const branch = drawn.get(place);
  branch.classList.add("here");
  branch.scrollIntoView({ block: "center" });
  branch.querySelector("summary").focus();
}

function marked(text, words) {
  const low = text.toLowerCase();
  const first = Math.min(...words.map((word) => low.indexOf(word)).filter((at) => at >= 0), Infinity);
  const from = first === Infinity ? 0 : Math.max(0, first - 80);
  const piece = (from ? "… " : "") + text.slice(from, from + 260) + (from + 260 < text.length ? " …" : "");
  const line = element("p", { class: "soft small" });
  const pattern = new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "giu");
  for (const [at, part] of piece.split(pattern).entries()) line.append(at % 2 ? element("mark", { text: part }) : part);
  return line;
}

function search() {
  const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return showTree();
  const inTitle = [], inText = [];
  nodes.forEach((node, place) => {
    const title = node[TITLE].toLowerCase();
    const all = `${title}\n${node[TEXT].toLowerCase()}\n${(node[PASSAGE] || node[ID]).toLowerCase()}`;
    if (words.every((word) => title.includes(word))) inTitle.push(place);
    else if (words.every((word) => all.includes(word))) inText.push(place);
  });
  const found = [...inTitle, ...inText];
  holder.replaceChildren(...found.slice(0, SHOWN).map((place) =>
    element("div", { class: "hit" },
      element("button", { type: "button", text: label(place), onclick: () => reveal(place) }),
      element("p", { class: "soft small", text: wayTo(place).slice(0, -1).map(label).join("  ›  ") }),
      marked(nodes[place][TEXT], words))));
  const matches = plural(found.length, "match", "matches");
  count.textContent = found.length > SHOWN ? `${matches}, the first ${SHOWN} shown` : matches;
}

function showTree() {
  count.textContent = "";
  holder.replaceChildren(...(data.root < 0 ? [element("p", { text: "This index holds no passages." })] : [trunk]));
}

const query = document.getElementById("query");
const holder = document.getElementById("tree");
const count = document.getElementById("found");
const trunk = data.root < 0 ? null : draw(data.root);

document.getElementById("title").textContent = data.title;
document.getElementById("facts").textContent = [
  data.root < 0 ? "empty" : plural(nodes[data.root][LEAVES], "passage"),
  plural(nodes.filter((node) => node[PASSAGE] === null).length, "inner node"),
  `passages longer than ${data.excerpt} characters are cut on this page`,
].join(" · ");
document.getElementById("fold").addEventListener("click", () => {
  query.value = "";
  showTree();
  for (const branch of drawn.values()) branch.open = false;
  if (trunk) trunk.open = true;
});
document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
let waiting = 0;
query.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 120); });
showTree();
if (trunk) { fill(trunk, data.root); trunk.open = true; }
