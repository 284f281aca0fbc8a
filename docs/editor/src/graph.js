/** The drawn graph: boxes can be selected, and the box of the selected row is marked. */
import { h } from "./dom.js";

const ALLOWED = new Set(["svg", "defs", "marker", "path", "rect", "text", "g", "title"]);

export class Graph {
  constructor(pane, select) {
    this.select = select;
    this.zoom = null;
    this.scroller = h("div", { class: "scroller" });
    const button = (label, title, factor) => h("button", { type: "button", title, onclick: () => this.scale(factor) }, label);
    pane.append(
      h("div", { class: "zoom" }, button("−", "Smaller", 1 / 1.25), button("+", "Larger", 1.25), button("Fit", "Fit the width", null)),
      this.scroller);
    new ResizeObserver(() => this.resize()).observe(this.scroller);
  }

  /** Show a drawing; without one the last one stays and is dimmed. */
  show(text, problems) {
    this.scroller.classList.toggle("stale", !text);
    if (text && text !== this.drawn) {
      const svg = parse(text);
      if (!svg) return;
      this.drawn = text;
      this.width = Number(svg.getAttribute("width"));
      for (const box of svg.querySelectorAll("g[data-row]")) {
        const row = Number(box.dataset.row);
        const label = box.querySelector("title")?.textContent ?? `row ${row}`;
        box.setAttribute("tabindex", "0");
        box.setAttribute("role", "button");
        box.setAttribute("aria-label", label);
        box.addEventListener("click", () => this.select(row));
        box.addEventListener("keydown", (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          this.select(row);
        });
      }
      this.scroller.replaceChildren(svg);
      this.resize();
    }
    const wrong = new Map(problems.map((problem) => [problem.row, problem.severity]));
    for (const box of this.boxes()) {
      const severity = wrong.get(Number(box.dataset.row));
      box.classList.toggle("error", severity === "error");
      box.classList.toggle("warning", severity === "warning");
    }
    this.mark(this.marked);
  }

  boxes() {
    return this.scroller.querySelectorAll("g[data-row]");
  }

  mark(row, reveal = false) {
    this.marked = row;
    for (const box of this.boxes()) {
      const selected = Number(box.dataset.row) === row;
      box.classList.toggle("selected", selected);
      if (selected && reveal) this.reveal(box);
    }
  }

  reveal(box) {
    const frame = this.scroller.getBoundingClientRect(), at = box.getBoundingClientRect();
    if (!frame.width) return;
    if (at.top < frame.top || at.bottom > frame.bottom) {
      this.scroller.scrollTop += at.top - frame.top - frame.height / 2 + at.height / 2;
    }
    if (at.left < frame.left || at.right > frame.right) {
      this.scroller.scrollLeft += at.left - frame.left - frame.width / 2 + at.width / 2;
    }
  }

  scale(factor) {
    this.zoom = factor === null ? null : (this.zoom ?? this.fitted()) * factor;
    this.resize(factor === null);
  }

  fitted() {
    return Math.min(1, (this.scroller.clientWidth - 4) / (this.width || 1));
  }

  resize(whole = this.whole) {
    this.whole = whole;
    const svg = this.scroller.firstElementChild;
    if (!svg || !this.scroller.clientWidth) return;
    const zoom = this.zoom ?? (whole ? this.fitted() : Math.max(this.fitted(), 0.62));
    svg.style.width = `${this.width * Math.min(Math.max(zoom, 0.1), 4)}px`;
    svg.style.height = "auto";
  }
}

/** The drawing as elements; null for anything but the elements of a drawing. */
function parse(text) {
  const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  for (const element of [svg, ...svg.querySelectorAll("*")]) {
    if (!ALLOWED.has(element.localName) || element.namespaceURI !== "http://www.w3.org/2000/svg") return null;
    if (element.getAttributeNames().some((name) => /^on|href/i.test(name))) return null;
  }
  return document.importNode(svg, true);
}
