/** The YAML editor. */
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab, redo, redoDepth, undo, undoDepth } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, bracketMatching, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, lintKeymap, setDiagnostics } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState, StateEffect, StateField, Transaction } from "@codemirror/state";
import { Decoration, EditorView, drawSelection, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { complete, moduleHover } from "./completion.js";

const highlighting = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--key)", fontWeight: "600" },
  { tag: [tags.string, tags.content], color: "var(--value)" },
  { tag: [tags.comment, tags.lineComment], color: "var(--muted)", fontStyle: "italic" },
  { tag: [tags.punctuation, tags.squareBracket, tags.brace, tags.separator], color: "var(--muted)" },
  { tag: [tags.keyword, tags.labelName], color: "var(--accent)" },
]);

const theme = EditorView.theme({
  "&": { height: "100%", color: "var(--text)", backgroundColor: "var(--page)", fontSize: "13px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5" },
  ".cm-content": { caretColor: "var(--text)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-gutters": { backgroundColor: "var(--panel)", color: "var(--muted)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--active)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground":
    { backgroundColor: "var(--selection) !important" },
  ".cm-selectionMatch, .cm-matchingBracket": { backgroundColor: "var(--match) !important" },
  ".cm-tooltip, .cm-panels": { backgroundColor: "var(--panel)", color: "var(--text)", border: "1px solid var(--line)" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-completionInfo": { width: "380px", maxHeight: "320px", overflow: "auto" },
  ".cm-completionDetail": { fontStyle: "normal", opacity: "0.75" },
  ".cm-diagnosticAction": { backgroundColor: "var(--accent)", color: "var(--on-accent)", padding: "2px 8px" },
  ".cm-row-selected": { backgroundColor: "var(--active)" },
});

const setLine = StateEffect.define();
const selectedLine = StateField.define({
  create: () => Decoration.none,
  update(value, transaction) {
    let lines = value.map(transaction.changes);
    for (const effect of transaction.effects) {
      if (!effect.is(setLine)) continue;
      const number = effect.value;
      const inside = number > 0 && number <= transaction.state.doc.lines;
      lines = inside
        ? Decoration.set(Decoration.line({ class: "cm-row-selected" }).range(transaction.state.doc.line(number).from))
        : Decoration.none;
    }
    return lines;
  },
  provide: (field) => EditorView.decorations.from(field),
});

export class TextEditor {
  /** `rows` gives the rows of the last answer; `changed` and `moved` are called after edits and cursor movements. */
  constructor(parent, catalog, { rows, changed, moved, save }) {
    this.view = new EditorView({
      parent,
      state: EditorState.create({
        doc: "",
        extensions: [
          EditorView.cspNonce.of(document.querySelector("meta[name=style-nonce]").content),
          lineNumbers(), highlightActiveLineGutter(), history(), drawSelection(), bracketMatching(), closeBrackets(),
          highlightActiveLine(), highlightSelectionMatches(), indentUnit.of("  "), yaml(), lintGutter(), selectedLine,
          syntaxHighlighting(highlighting), theme, moduleHover(catalog),
          autocompletion({ override: [complete(catalog, rows)], icons: false }),
          keymap.of([
            { key: "Mod-s", preventDefault: true, run: () => (save(), true) },
            ...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...completionKeymap,
            ...lintKeymap, indentWithTab,
          ]),
          EditorView.contentAttributes.of({ "aria-label": "Model YAML" }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) changed();
            else if (update.selectionSet) moved();
          }),
        ],
      }),
    });
  }

  get text() {
    return this.view.state.doc.toString();
  }

  get line() {
    return this.view.state.doc.lineAt(this.view.state.selection.main.head).number;
  }

  /** Replace the text by a changed one: the part that differs, as one step that can be undone. */
  replace(text) {
    const old = this.text;
    if (old === text) return;
    let start = 0;
    const shorter = Math.min(old.length, text.length);
    while (start < shorter && old[start] === text[start]) start += 1;
    let end = 0;
    while (end < shorter - start && old[old.length - 1 - end] === text[text.length - 1 - end]) end += 1;
    const changes = { from: start, to: old.length - end, insert: text.slice(start, text.length - end) };
    this.view.dispatch({ changes, userEvent: "input", scrollIntoView: false });
  }

  /** Show the first text, which cannot be undone. */
  load(text) {
    const changes = { from: 0, to: this.view.state.doc.length, insert: text };
    this.view.dispatch({ changes, annotations: Transaction.addToHistory.of(false) });
  }

  mark(problems) {
    const length = this.view.state.doc.length;
    const diagnostics = problems.map((problem) => ({
      from: Math.min(problem.start, length),
      to: Math.min(Math.max(problem.end, problem.start), length),
      severity: problem.severity,
      source: problem.rule,
      message: problem.where ? `${problem.where}: ${problem.message}` : problem.message,
      actions: problem.fix ? [{ name: fixLabel(problem), apply: () => this.fix(problem) }] : [],
    }));
    this.view.dispatch(setDiagnostics(this.view.state, diagnostics));
  }

  fix(problem) {
    const { start, end, text } = problem.fix;
    this.view.dispatch({ changes: { from: start, to: end, insert: text }, userEvent: "input" });
    this.view.focus();
  }

  markLine(number) {
    this.view.dispatch({ effects: setLine.of(number ?? 0) });
  }

  /** Move the cursor to the start of a line, or of a position, and show it. */
  goto(lineNumber) {
    const line = this.view.state.doc.line(Math.min(Math.max(lineNumber, 1), this.view.state.doc.lines));
    const position = line.from + /^\s*(?:-\s*)?/.exec(line.text)[0].length;
    this.view.dispatch({ selection: { anchor: position }, effects: EditorView.scrollIntoView(position, { y: "center" }) });
    this.view.focus();
  }

  undo() { undo(this.view); }
  redo() { redo(this.view); }
  get canUndo() { return undoDepth(this.view.state) > 0; }
  get canRedo() { return redoDepth(this.view.state) > 0; }
}

export function fixLabel(problem) {
  const text = problem.fix.text;
  return `Write ${text.length > 40 ? `${text.slice(0, 39)}…` : text}`;
}
