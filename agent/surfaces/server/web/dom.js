// Elements from data. Text is always a text node: nothing that a document says is ever read as HTML.

export const $ = (id) => document.getElementById(id);

/** An element with attributes (on... are listeners, class is a string) and children (strings become text). */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

// A shape for each state, so that colour never speaks alone.
const SHAPES = {
  opened: [["circle", { cx: 9, cy: 9, r: 5.5, fill: "currentColor" }]],
  judging: [["path", { d: "M9 2.500 15.500 9 9 15.500 2.500 9Z", fill: "currentColor" }]],
  closed: [["circle", { cx: 9, cy: 9, r: 4.7, fill: "none", stroke: "currentColor", "stroke-width": 1.7 }]],
  unjudged: [["circle", { cx: 9, cy: 9, r: 4.7, fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-dasharray": "2 2.200" }]],
  read: [["rect", { x: 4.5, y: 4.5, width: 9, height: 9, rx: 1.5, fill: "none", stroke: "currentColor", "stroke-width": 1.6 }]],
  hit: [["rect", { x: 4, y: 4, width: 10, height: 10, rx: 1.5, fill: "currentColor" }]],
  cited: [["path", { d: "M9 1.800l2.200 4.600 5 .7-3.600 3.500.9 5L9 13.200l-4.500 2.400.9-5L1.800 7.100l5-.7Z", fill: "currentColor" }]],
};

export const STATES = {
  opened: "branch, opened",
  judging: "being judged",
  closed: "branch, judged but not opened",
  unjudged: "not judged",
  read: "passage, read",
  hit: "passage among the results",
  cited: "passage cited in the answer",
};

/** The shape of a state, drawn. */
export function glyph(state) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 18 18");
  svg.setAttribute("class", `glyph ${state}`);
  svg.setAttribute("aria-hidden", "true");
  for (const [name, attributes] of SHAPES[state]) {
    const shape = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
  }
  return svg;
}

export const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
