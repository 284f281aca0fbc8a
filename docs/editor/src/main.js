/** The page of `graftdet edit`: connects the editor, the graph, the tables and the server. */
import { call } from "./api.js";
import { Catalog } from "./completion.js";
import { askConflict, askInsertion, askModel, askName, askSwap, showComparison } from "./dialogs.js";
import { count, h } from "./dom.js";
import { Graph } from "./graph.js";
import { Palette } from "./palette.js";
import { RowTable } from "./rows.js";
import { TextEditor, fixLabel } from "./text.js";

const DELAY = 120;  // ms from the last key to the check
const TABS = [["yaml", "YAML"], ["graph", "Graph"], ["rows", "Rows"], ["modules", "Modules"]];
const state = { name: "", path: "", digest: "", saved: "", models: [], rows: [], problems: [], selected: null, checked: null };
const catalog = new Catalog();

const button = (label, title, onclick, id) => h("button", { type: "button", title, onclick, id }, label);
const title = h("strong", { class: "file" });
const message = h("div", { class: "message", role: "status", "aria-live": "polite" });
const totals = h("div", { class: "sums" });
const problemList = h("ol", { class: "problems", "aria-label": "Problems" });
const panes = Object.fromEntries(TABS.map(([id]) => [id, h("section", { class: `pane ${id}`, id })]));
const editorPane = h("div", { class: "editor" });
const tabs = h("nav", { role: "tablist" }, TABS.map(([id, label]) =>
  h("button", { type: "button", role: "tab", "data-tab": id, onclick: () => showTab(id) }, label)));
panes.yaml.append(editorPane, problemList);
document.body.append(
  h("header", {}, title,
    h("div", { class: "tools" },
      h("span", { class: "history" }, button("Undo", "Ctrl+Z", () => editor.undo(), "undo"), button("Redo", "Ctrl+Y", () => editor.redo(), "redo")),
      h("span", {}, button("Insert", "Insert a row", () => insert(), "insert"), button("Swap", "Replace a module", () => swap(), "swap"),
        button("Rename", "Name the selected row", rename, "rename"), button("Delete", "Delete the selected row", remove, "delete")),
      h("span", {}, button("Compare", "Compare with the file on disk or another model", compare, "compare"),
        button("Open", "Load a model of configs/models", open, "open"), button("Save", "Ctrl+S", () => save(), "save")))),
  tabs,
  h("main", {}, ...Object.values(panes)),
  h("footer", {}, totals, message));

const editor = new TextEditor(editorPane, catalog, { rows: () => state.rows, changed, moved, save: () => save() });
const graph = new Graph(panes.graph, select);
const table = new RowTable(panes.rows, select);
const palette = new Palette(panes.modules, { insert, swap });
const narrow = matchMedia("(max-width: 899px)");
narrow.addEventListener("change", () => showTab(narrow.matches ? "yaml" : "graph"));

function showTab(id) {
  document.body.dataset.tab = id;
  for (const tab of tabs.children) tab.setAttribute("aria-selected", String(tab.dataset.tab === id));
  mark(state.selected, true);
}

function say(text, isError = false) {
  message.textContent = text;
  message.classList.toggle("error", isError);
}

/** Run an action of the toolbar; what goes wrong is shown. */
async function attempt(action) {
  try {
    say("");
    await action();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
}

let timer, running;
function changed() {
  showFile();
  clearTimeout(timer);
  timer = setTimeout(check, DELAY);
}

async function check() {
  running?.abort();
  running = new AbortController();
  const text = editor.text, started = performance.now();
  try {
    const answer = await call("check", { text }, running.signal);
    if (text !== editor.text) return;
    showReport(answer, performance.now() - started);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
}

function showReport(answer, milliseconds) {
  const { problems } = answer;
  state.problems = problems;
  state.checked = editor.text;
  if (answer.rows.length) state.rows = answer.rows;
  editor.mark(problems);
  graph.show(answer.svg, problems);
  table.show(answer.rows, problems);
  showProblems(problems);
  if (answer.totals) {
    const { rows, params, gflops, strides, size, incomplete } = answer.totals;
    totals.textContent = `${rows} rows, ${incomplete ? "at least " : ""}${count(params)} parameters, ${gflops.toFixed(2)} GFLOPs ` +
      `at ${size}×${size}${strides ? `, strides ${strides.join(", ")}` : ""}`;
    totals.title = `answered in ${Math.round(milliseconds)} ms`;
  }
  const errors = problems.filter((problem) => problem.severity === "error").length;
  document.body.dataset.state = errors ? "errors" : problems.length ? "warnings" : "ok";
  moved();
}

function showProblems(problems) {
  problemList.replaceChildren(...problems.map((problem) => h("li", { class: problem.severity },
    h("button", { type: "button", class: "where", onclick: () => goto(problem.line ?? 1) }, `line ${problem.line ?? 1}`),
    h("span", {}, problem.where ? `${problem.where}: ` : "", problem.message, " ", h("code", {}, problem.rule)),
    problem.fix ? h("button", { type: "button", class: "fix", onclick: () => editor.fix(problem) }, fixLabel(problem)) : null)));
  if (!problems.length) problemList.append(h("li", { class: "none" }, "No problems"));
}

/** The row at the cursor: the last one that starts at or before its line. */
function moved() {
  const line = editor.line;
  const row = state.rows.filter((one) => one.line !== null && one.line <= line).at(-1);
  const inside = row && (row.line === line || isContinued(row, line));
  mark(inside ? row.index : null, true);
  showFile();
}

function isContinued(row, line) {
  const lines = editor.text.split("\n").slice(row.line - 1, line);
  return lines.slice(1).every((text) => /^\s/.test(text) && !/^\s*(#|-\s*\[)/.test(text) && text.trim());
}

function mark(row, reveal) {
  state.selected = row;
  graph.mark(row, reveal);
  table.mark(row, reveal);
  for (const id of ["rename", "delete"]) document.getElementById(id).disabled = row === null;
}

function select(index) {
  const row = state.rows[index];
  if (row?.line) goto(row.line);
}

function goto(line) {
  if (narrow.matches && document.body.dataset.tab === "yaml") editor.goto(line);
  else if (narrow.matches) {
    const tab = document.body.dataset.tab;
    editor.goto(line);
    showTab(tab);
  } else editor.goto(line);
}

function showFile() {
  const dirty = editor.text !== state.saved;
  title.textContent = (dirty ? "● " : "") + state.name;
  title.title = state.path;
  document.title = `${dirty ? "● " : ""}${state.name} – GraftDet`;
  document.getElementById("undo").disabled = !editor.canUndo;
  document.getElementById("redo").disabled = !editor.canRedo;
}

async function edit(values, done) {
  const { text } = await call("edit", { text: editor.text, edit: values });
  editor.replace(text);
  say(done);
}

const insert = (module) => attempt(async () => {
  const values = await askInsertion(catalog, state.rows, state.selected, module);
  if (!values) return;
  const after = Number(values.after);
  await edit({ kind: "insert", after, row: values.row, readers: values.readers }, `Row inserted after ${after < 0 ? "the start" : `row ${after}`}`);
});

const swap = (module) => attempt(async () => {
  const values = await askSwap(catalog, state.rows, state.selected, module);
  if (!values) return;
  await edit({ kind: "swap", old: values.old, new: values.module, rows: values.rows || null }, `${values.module} for ${values.old}`);
});

function rename() {
  return attempt(async () => {
    const row = state.rows[state.selected];
    const values = row && await askName(row);
    if (values) await edit({ kind: "rename", row: row.index, name: values.name }, `Row ${row.index} renamed`);
  });
}

function remove() {
  return attempt(async () => {
    const row = state.rows[state.selected];
    if (row) await edit({ kind: "delete", row: row.index }, `Row ${row.index} ${row.module} deleted`);
  });
}

function compare() {
  return attempt(async () => {
    const values = await askModel("Compare with", state.models, state.name, "Compare");
    if (values) await compareWith(values.model ?? "");
  });
}

async function compareWith(other) {
  const text = editor.text;
  showComparison(await call("compare", { text, other }), () => call("latency", { text, other }));
}

function open() {
  return attempt(async () => {
    const values = await askModel("Open a model", state.models, state.name, "Open");
    if (!values) return;
    const answer = await call("open", { name: values.model ?? "" });
    editor.replace(answer.text);
    if (!values.model) {
      state.digest = answer.digest;
      state.saved = answer.text;
    }
    showFile();
    say(values.model ? `${values.model} loaded; Save writes it to ${state.name}` : `${state.name} loaded`);
  });
}

function save(overwrite = false) {
  return attempt(async () => {
    const text = editor.text;
    try {
      const answer = await call("save", { text, digest: state.digest, overwrite });
      Object.assign(state, { digest: answer.digest, saved: text });
      showFile();
      say(`Saved ${state.path}`);
    } catch (error) {
      if (!error.conflict) throw error;
      const values = await askConflict(error.message);
      if (values?.answer === "overwrite") await save(true);
      else if (values?.answer === "compare") await compareWith("");
      else if (values?.answer === "load") {
        const answer = await call("open", { name: "" });
        editor.replace(answer.text);
        Object.assign(state, { digest: answer.digest, saved: answer.text });
        showFile();
      } else say("Not saved", true);
    }
  });
}

addEventListener("beforeunload", (event) => {
  if (editor.text !== state.saved) event.preventDefault();
});

showTab(narrow.matches ? "yaml" : "graph");
attempt(async () => {
  const { name, path, text, digest, models, origin } = await call("state");
  Object.assign(state, { name, path, digest, models, saved: text });
  editor.load(text);
  showFile();
  if (origin) say(`New file from ${origin}; Save writes ${path}`);
  await check();
  catalog.set(await call("modules"));
  palette.set(catalog.modules);
  document.body.dataset.ready = "yes";
});
