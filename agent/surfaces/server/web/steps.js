// The step strip: each slate a bar, and a slider that shows the tree as it was at any of them.

import { $, h } from "./dom.js";

const PACE = 700; // milliseconds a step when replayed

export class Steps {
  /** `onStep` is given how many of the events are to be shown. */
  constructor({ onStep }) {
    this.onStep = onStep;
    this.ends = [];
    this.timer = null;
    $("scrub").addEventListener("input", () => { this.pause(); this.#go(Number($("scrub").value)); });
    $("play").addEventListener("click", () => (this.timer ? this.pause() : this.play()));
  }

  /** Take over a list of events. A step ends where the next slate begins; the last one ends with the events. */
  show(events) {
    const slates = events.flatMap(({ kind, payload }, at) => (kind === "slate" ? [{ at, kind: payload.kind, size: payload.candidates.length }] : []));
    this.ends = [...slates.slice(1).map(({ at }) => at), ...(slates.length ? [events.length] : [])];
    const largest = Math.max(1, ...slates.map(({ size }) => size));
    $("strip").replaceChildren(...slates.map(({ kind, size }) => {
      const bar = h("div", { class: `step ${kind}` });
      bar.style.height = `${Math.round(4 + 14 * (size / largest))}px`;
      return bar;
    }));
    $("steps").hidden = slates.length === 0;
    $("scrub").max = String(Math.max(0, slates.length - 1));
    $("scrub").value = $("scrub").max;
    this.#mark(slates.length - 1);
  }

  play() {
    const last = this.ends.length - 1;
    let at = Number($("scrub").value) >= last ? -1 : Number($("scrub").value);
    $("play").classList.add("playing");
    const next = () => {
      at += 1;
      this.#go(at);
      if (at >= last) this.pause();
    };
    this.timer = setInterval(next, PACE);
    next();
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    $("play").classList.remove("playing");
  }

  #go(step) {
    $("scrub").value = String(step);
    this.#mark(step);
    this.onStep(this.ends[step] ?? 0);
  }

  #mark(step) {
    [...$("strip").children].forEach((bar, at) => bar.classList.toggle("done", at <= step));
    $("step-text").textContent = this.ends.length ? `${step + 1} / ${this.ends.length}` : "";
    $("scrub").setAttribute("aria-valuetext", `slate ${step + 1} of ${this.ends.length}`);
  }
}
