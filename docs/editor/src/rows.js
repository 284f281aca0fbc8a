/** The table of rows, with bars of parameters and multiply-adds and a column per stride. */
import { count, h, shapeText, short } from "./dom.js";

export class RowTable {
  constructor(pane, select) {
    this.pane = pane;
    this.select = select;
  }

  show(rows, problems) {
    if (!rows.length) return;
    const strides = [...new Set(rows.map((row) => row.stride))].sort((a, b) => a - b);
    const most = (key) => Math.max(1, ...rows.map((row) => row[key]));
    const params = most("params"), macs = most("macs");
    const wrong = new Map(problems.map((problem) => [problem.row, problem.severity]));
    const head = h("tr", {},
      h("th", {}, "#"), h("th", {}, "module"), h("th", { class: "from" }, "from"), h("th", {}, "output"),
      strides.map((stride) => h("th", { class: "stride", title: `stride ${stride}` }, String(stride))),
      h("th", { class: "bar" }, "parameters"), h("th", { class: "bar" }, "MACs"));
    const lines = rows.map((row) => h("tr",
      { "data-row": row.index, class: wrong.get(row.index), tabindex: "0", title: `${row.module}(${row.args})${row.repeats}`,
        onclick: () => this.select(row.index),
        onkeydown: (event) => event.key === "Enter" && this.select(row.index) },
      h("td", {}, String(row.index)),
      h("td", { class: "module" }, row.module, row.repeats ? h("small", {}, row.repeats) : null,
        row.name ? h("small", {}, ` ${row.name}`) : null),
      h("td", { class: "from" }, row.sources.map((source) => (source < 0 ? "image" : source)).join(", ")),
      h("td", {}, shapeText(row.shapes), row.known ? null : h("small", { title: "likely: the row cannot be built" }, " ?")),
      strides.map((stride) => h("td", { class: stride === row.stride ? "stride here" : "stride" })),
      bar(row, "params", params), bar(row, "macs", macs)));
    this.pane.replaceChildren(h("table", { class: "rows" }, h("thead", {}, head), h("tbody", {}, lines)));
    this.mark(this.marked);
  }

  mark(row, reveal = false) {
    this.marked = row;
    for (const line of this.pane.querySelectorAll("tr[data-row]")) {
      const selected = Number(line.dataset.row) === row;
      line.classList.toggle("selected", selected);
      if (selected && reveal && this.pane.clientHeight) line.scrollIntoView({ block: "nearest" });
    }
  }
}

function bar(row, key, most) {
  const value = row[key];
  const fill = h("i");
  fill.style.width = `${(100 * value) / most}%`;
  return h("td", { class: "bar", title: count(value) }, h("span", {}, fill), h("b", {}, row.known ? (value ? short(value) : "") : "?"));
}
