// The evidence: quotes that code has found in the stored text, the passages behind them, and their documents.

import { $, h, plural, score } from "./dom.js";
import { getJson } from "./net.js";

export class Evidence {
  /** `onLight` is given the passages whose way is to be lit (none: []), `onPick` the passage whose node is to be shown. */
  constructor({ onLight, onPick }) {
    this.onLight = onLight;
    this.onPick = onPick;
    this.asked = {};
    $("document-close").addEventListener("click", () => $("document").close());
    $("document").addEventListener("click", (event) => event.target === $("document") && $("document").close());
  }

  clear(text = "Quotes, checked against the stored text, and the passages found stand here.") {
    $("evidence-count").textContent = "";
    $("evidence-body").replaceChildren(h("div", { class: "empty" }, h("p", {}, text)));
  }

  /** `asked` is the body of the question: its index, and what it must not see, which its documents must not show. */
  show(answer, asked) {
    this.asked = asked;
    const { citations, conflicts, search } = answer;
    const cited = new Set(citations.map(({ passage_id: passage }) => passage));
    $("evidence-count").textContent = `${plural(citations.length, "quote")}, ${plural(search.hits.length, "passage")}`;
    if (!search.hits.length) return this.clear("Nothing was found for this question.");
    const byPassage = new Map(search.hits.map((hit) => [hit.passage_id, hit]));
    $("evidence-body").replaceChildren(
      ...conflicts.map(([one, other]) => h("p", { class: "conflict" }, `[${one}] and [${other}] contradict each other.`)),
      ...(citations.length ? [h("h3", { class: "group" }, "Quoted")] : []),
      ...citations.map((citation) => this.#quote(citation, byPassage.get(citation.passage_id))),
      h("h3", { class: "group" }, "Passages found"),
      ...search.hits.map((hit) => this.#hit(hit, cited.has(hit.passage_id))),
    );
  }

  /** Mark the cards of these passages. */
  light(passages) {
    const wanted = new Set(passages);
    for (const card of $("evidence-body").querySelectorAll(".card")) card.classList.toggle("lit", wanted.has(card.dataset.passage));
  }

  reveal(number) {
    const card = [...$("evidence-body").querySelectorAll(".card")].find((one) => one.dataset.number === String(number));
    card?.scrollIntoView({ block: "nearest" });
    card?.focus({ preventScroll: true });
  }

  #card(passage, attributes, ...children) {
    const lit = (on) => () => { this.onLight(on ? [passage] : []); };
    return h("article", { class: "card", tabindex: -1, "data-passage": passage, onmouseenter: lit(true), onmouseleave: lit(false), onfocusin: lit(true), onfocusout: lit(false), ...attributes }, ...children);
  }

  #quote(citation, hit) {
    return this.#card(citation.passage_id, { "data-number": citation.number },
      h("div", { class: "head" }, h("span", { class: "number" }, `[${citation.number}]`), h("h3", {}, citation.title || citation.doc_id)),
      h("blockquote", {}, citation.quote),
      h("p", { class: "way" }, place(citation)),
      h("div", { class: "act" }, ...this.#acts(citation, hit)),
    );
  }

  #hit(hit, cited) {
    const way = hit.path.slice(1, -1).map(({ title }) => title).filter(Boolean).join(" › ");
    return this.#card(hit.passage_id, {},
      h("div", { class: "head" }, h("span", { class: "rank" }, `${hit.rank}`), h("h3", {}, hit.title || hit.doc_id), cited ? h("span", { class: "number" }, "cited") : null),
      way ? h("p", { class: "way" }, way) : null,
      h("p", { class: "text" }, hit.text),
      hit.reason ? h("p", { class: "why" }, `The judge: ${hit.reason}`) : null,
      hit.judged ? null : h("p", { class: "why" }, "Found by its words and its vector; no judge has read it."),
      h("div", { class: "act" }, ...this.#acts(hit, hit), h("span", { class: "score" }, `score ${score(hit.score)}`)),
    );
  }

  #acts(place, hit) {
    return [
      h("button", { type: "button", onclick: () => this.open(place) }, "Read in document"),
      hit ? h("button", { type: "button", onclick: () => this.onPick(hit.node_id) }, "Show in tree") : null,
    ];
  }

  /** The document around `start`, with the characters from `start` to `end` marked. */
  async open({ doc_id: doc, start, end, title, page }, { index, filters = {}, excluded_ids = [] } = this.asked) {
    $("document-title").textContent = title || doc;
    $("document-place").textContent = "Opening…";
    $("document-text").replaceChildren();
    if (!$("document").open) $("document").showModal();
    try {
      const found = await getJson("/document", { index, doc_id: doc, start, filters: JSON.stringify(filters), excluded_ids });
      const from = Math.max(0, start - found.first);
      const to = Math.max(from, end - found.first);
      const chars = [...found.text]; // the server counts characters, JavaScript counts UTF-16 units
      const mark = h("mark", {}, chars.slice(from, to).join(""));
      const cut = found.first > 0 || found.first + chars.length < found.length;
      $("document-title").textContent = found.title || title || doc;
      $("document-place").textContent = [found.source || doc, page ? `page ${page}` : null, `characters ${start.toLocaleString("en")} to ${end.toLocaleString("en")} of ${found.length.toLocaleString("en")}`, cut ? "an excerpt" : null].filter(Boolean).join(" · ");
      $("document-text").replaceChildren(chars.slice(0, from).join(""), mark, chars.slice(to).join(""));
      mark.scrollIntoView({ block: "center" });
    } catch (error) {
      $("document-place").textContent = error.message;
    }
  }
}

const place = ({ page, start, end }) => `${page ? `page ${page}, ` : ""}characters ${start.toLocaleString("en")} to ${end.toLocaleString("en")}`;
