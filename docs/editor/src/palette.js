/** All modules, with a search. */
import { describe } from "./completion.js";
import { h } from "./dom.js";

export class Palette {
  constructor(pane, { insert, swap }) {
    this.insert = insert;
    this.swap = swap;
    this.search = h("input", { type: "search", placeholder: "Search name, purpose, paper …", "aria-label": "Search modules",
      oninput: () => this.filter() });
    this.list = h("ul", { class: "modules" });
    pane.append(h("div", { class: "search" }, this.search), this.list);
  }

  set(modules) {
    this.entries = modules.map((module) => {
      const text = [module.name, ...(module.aliases ?? []), module.family, module.purpose, module.source].join(" ");
      return { module, text: text.toLowerCase() };
    });
    this.filter();
  }

  filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.entries.filter(({ module, text }) =>
      words.every((part) => text.includes(part)) && (words.length || module.kind !== "layer"));
    this.list.replaceChildren(...found.map(({ module }) => this.item(module)));
    if (!found.length) this.list.append(h("li", { class: "none" }, "No module has these words."));
  }

  item(module) {
    const details = h("details", {}, h("summary", {}, h("b", {}, module.name), " ",
      h("span", { class: "kind" }, module.kind), h("span", { class: "purpose" }, module.purpose ?? "")));
    details.addEventListener("toggle", () => {
      if (!details.open || details.dataset.filled) return;
      details.dataset.filled = "yes";
      details.append(describe(module), h("div", { class: "actions" },
        module.kind === "head" ? null : h("button", { type: "button", onclick: () => this.insert(module) }, "Insert …"),
        h("button", { type: "button", onclick: () => this.swap(module) }, "Swap …")));
    }, { once: false });
    return h("li", {}, details);
  }
}
