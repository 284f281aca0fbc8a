/** Dialogs of the toolbar. Each resolves to the values of its form, or to null if it is closed. */
import { count, h, shapeText } from "./dom.js";

export function ask(title, fields, button = "OK") {
  return new Promise((resolve) => {
    const form = h("form", { method: "dialog" }, h("h2", {}, title), fields,
      h("div", { class: "buttons" },
        h("button", { type: "submit", value: "cancel", formnovalidate: true }, "Cancel"),
        h("button", { type: "submit", value: "ok", class: "primary" }, button)));
    const dialog = h("dialog", { "aria-label": title }, form);
    dialog.addEventListener("close", () => {
      const values = dialog.returnValue === "ok" ? Object.fromEntries(new FormData(form)) : null;
      dialog.remove();
      resolve(values);
    });
    form.addEventListener("keydown", (event) => {  // Enter is the second button, not the first one
      if (event.key !== "Enter" || event.target.tagName === "BUTTON") return;
      event.preventDefault();
      form.requestSubmit(form.querySelector("button.primary"));
    });
    document.body.append(dialog);
    dialog.showModal();
    form.querySelector("[autofocus]")?.focus();
  });
}

const labeled = (label, input) => h("label", {}, h("span", {}, label), input);

function moduleInput(modules, value, onchange) {
  const options = modules.flatMap((module) => [module.name, ...(module.aliases ?? [])].map((name) => h("option", { value: name })));
  return [
    h("input", { name: "module", value: value ?? "", list: "module-names", required: true, autocomplete: "off", autofocus: true,
      oninput: (event) => onchange?.(event.target.value) }),
    h("datalist", { id: "module-names" }, options),
  ];
}

function rowSelect(rows, selected, last) {
  return h("select", { name: "after" },
    h("option", { value: "-1", selected: selected === -1 }, "the start"),
    rows.slice(0, last).map((row) => h("option", { value: row.index, selected: row.index === selected },
      `row ${row.index} ${row.module}${row.name ? ` '${row.name}'` : ""}`)));
}

export function askInsertion(catalog, rows, selected, module) {
  const row = h("input", { name: "row", class: "code", required: true, value: module ? exampleRow(module) : "", spellcheck: "false" });
  const changed = (name) => {
    const found = catalog.find(name);
    if (found) row.value = exampleRow({ ...found, name });
  };
  const after = Math.min(selected ?? rows.length - 2, rows.length - 2);
  return ask("Insert a row", [
    labeled("After", rowSelect(rows, after, -1)),
    labeled("Module", moduleInput(catalog.modules, module?.name, changed)),
    labeled("Row", row),
    labeled("Read by", h("select", { name: "readers" },
      h("option", { value: "next" }, "the next row"), h("option", { value: "all" }, "all rows that read the one before it"))),
  ], "Insert");
}

/** A row with a module: that of its example, or without arguments. */
function exampleRow(module) {
  const example = module.example ?? "";
  const match = /^\[\s*(?:\[[^\]]*\]|[^,]+),\s*[^,]+,\s*[^,]+,\s*(.*)\]$/.exec(example);
  return `[-1, 1, ${module.name}, ${match ? match[1] : "[]"}]`;
}

export function askSwap(catalog, rows, selected, module) {
  const modules = [...new Set(rows.map((row) => row.module))];
  const own = rows[selected]?.module;
  const scope = h("select", { name: "rows" },
    own ? h("option", { value: String(selected) }, `row ${selected}`) : null,
    h("option", { value: "" }, "all rows with this module"),
    h("option", { value: "backbone" }, "rows of the backbone with this module"),
    h("option", { value: "head" }, "rows of the head with this module"));
  const old = h("select", { name: "old", onchange: () => { if (old.value !== own) scope.value = ""; } },
    modules.map((name) => h("option", { value: name, selected: name === own }, name)));
  return ask("Swap a module", [
    labeled("Replace", old), labeled("By", moduleInput(catalog.modules, module?.name)), labeled("In", scope),
  ], "Swap");
}

export function askName(row) {
  return ask(`Name of row ${row.index} ${row.module}`, [
    labeled("Name", h("input", { name: "name", value: row.name ?? "", class: "code", autofocus: true, spellcheck: "false",
      pattern: "[A-Za-z_][\\w.\\-]*", title: "a letter, then letters, digits, '_', '.' or '-'" })),
    h("p", { class: "hint" }, "Rows may read this row by its name. Without a name they read it by its index."),
  ], "Rename");
}

export function askModel(title, models, fileName, button) {
  return ask(title, [labeled("Model", h("select", { name: "model", size: 14, required: true, autofocus: true },
    h("option", { value: "", selected: true }, `${fileName} (on disk)`),
    models.map((name) => h("option", { value: name }, name))))], button);
}

export function askConflict(message) {
  return ask("The file has changed", [h("p", {}, message),
    labeled("Do", h("select", { name: "answer" },
      h("option", { value: "compare" }, "compare with the file on disk"),
      h("option", { value: "load" }, "load the file on disk (can be undone)"),
      h("option", { value: "overwrite" }, "overwrite the file on disk")))]);
}

/** The comparison of two models; `measure` gives latencies. */
export function showComparison(answer, measure) {
  const [other, own] = answer.models;
  const relation = (a, b) => (a ? ` (${b >= a ? "+" : "−"}${Math.abs(100 * (b / a - 1)).toFixed(1)}\u00a0%)` : "");
  const latency = h("tr", {}, h("th", {}, "latency"), h("td", { colspan: 2 },
    h("button", { type: "button", onclick: async (event) => {
      event.target.disabled = true;
      event.target.textContent = "Measuring …";
      try {
        const times = await measure();
        latency.replaceChildren(h("th", {}, "latency, torch (cpu)"), times.map((time, i) => h("td", {},
          `${time.median.toFixed(1)} ms` + (i ? relation(times[0].median, time.median) : ""))));
      } catch (error) {
        event.target.replaceWith(h("span", { class: "error" }, error.message));
      }
    } }, "Measure")));
  const totals = h("table", { class: "totals" },
    h("thead", {}, h("tr", {}, h("th"), h("th", {}, other.name), h("th", {}, own.name))),
    h("tbody", {},
      h("tr", {}, h("th", {}, "rows"), h("td", {}, String(other.rows)), h("td", {}, String(own.rows))),
      h("tr", {}, h("th", {}, "parameters"), h("td", {}, count(other.params)),
        h("td", {}, count(own.params) + relation(other.params, own.params))),
      h("tr", {}, h("th", {}, "GFLOPs at 640"), h("td", {}, other.gflops.toFixed(2)),
        h("td", {}, own.gflops.toFixed(2) + relation(other.gflops, own.gflops))),
      other.errors || own.errors
        ? h("tr", {}, h("th", {}, "errors"), h("td", {}, String(other.errors)), h("td", {}, String(own.errors))) : null,
      other.errors || own.errors ? null : latency));
  const cell = (row) => h("td", {}, row
    ? [h("b", {}, `${row.index} ${row.module}`), row.repeats, ` [${row.args}] `,
      h("small", {}, `${shapeText(row.shapes)}, ${count(row.params)}`)] : "—");
  const differing = answer.lines.filter((line) => line.differs);
  const lines = h("table", { class: "lines" }, h("tbody", {}, differing.map((line) => h("tr", {}, line.rows.map(cell)))));
  const dialog = h("dialog", { class: "wide", "aria-label": "Comparison" }, h("form", { method: "dialog" },
    h("h2", {}, "Comparison"), totals,
    h("h3", {}, differing.length ? `${differing.length} ${differing.length === 1 ? "row differs" : "rows differ"}` : "No row differs"), lines,
    h("div", { class: "buttons" }, h("button", { class: "primary", autofocus: true }, "Close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
