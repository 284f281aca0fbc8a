/** Completion of keys, modules and arguments, and the description of a module under the pointer. */
import { hoverTooltip } from "@codemirror/view";
import { h } from "./dom.js";

const KEYS = "nc names ch depth_multiple width_multiple max_channels scales scale anchors activation backbone head";
const VALUES = ["nc", "anchors", "None", "True", "False"];
const START = String.raw`^\s*-?\s*\[\s*(?:\[[^\]]*\]|[^,\[\]]+)\s*,\s*[^,\[\]]+,\s*`;
const IN_MODULE = new RegExp(`${START}([\\w.]*)$`);
const IN_ARGUMENTS = new RegExp(`${START}['"]?([\\w.]+)['"]?\\s*,\\s*(\\[.*|\\{[^}]*)$`);
const IN_SOURCES = /^\s*-?\s*\[\s*\[?[^\]]*?([\w.-]*)$/;

export class Catalog {
  constructor() {
    this.modules = [];
    this.byName = new Map();
  }

  set(modules) {
    this.modules = modules;
    for (const module of modules) {
      for (const name of [module.name, ...(module.aliases ?? [])]) this.byName.set(name, module);
    }
  }

  find(name) {
    return this.byName.get(name);
  }
}

export function complete(catalog, rows) {
  return (context) => {
    const line = context.state.doc.lineAt(context.pos);
    const before = line.text.slice(0, context.pos - line.from);
    const typed = /[\w.]*$/.exec(before)[0];
    const from = context.pos - typed.length;
    if (before.includes("#") || (!typed && !context.explicit && !/[,[{]\s*$/.test(before))) return null;
    if (IN_MODULE.test(before)) return { from, options: moduleOptions(catalog), validFor: /^[\w.]*$/ };
    const inside = IN_ARGUMENTS.exec(before);
    if (inside) return argumentOptions(catalog.find(inside[1]), inside[2], from);
    if (IN_SOURCES.test(before) && before.includes("[")) {
      const names = rows().filter((row) => row.name).map((row) => ({
        label: row.name, detail: `row ${row.index} ${row.module}`, type: "variable",
      }));
      return names.length ? { from, options: names } : null;
    }
    if (/^\w*$/.test(before) && typed) {
      return { from, options: KEYS.split(" ").map((label) => ({ label, apply: `${label}: `, type: "property" })) };
    }
    return null;
  };
}

function moduleOptions(catalog) {
  return catalog.modules.flatMap((module) =>
    [module.name, ...(module.aliases ?? [])].map((label) => ({
      label,
      detail: module.kind,
      type: module.kind === "head" ? "interface" : "class",
      boost: module.kind === "layer" ? -10 : 0,
      info: module.signature ? () => describe(module) : undefined,
    })));
}

/** Options for an argument: names in a mapping, in a list what the argument at that position takes. */
function argumentOptions(module, text, from) {
  const mapping = /\{([^{}]*)$/.exec(text);
  const known = module?.arguments ?? [];
  if (mapping && !/:\s*[^,]*$/.test(mapping[1])) {
    return { from, options: known.map((argument) => ({
      label: argument.name, apply: `${argument.name}: `, type: "property",
      detail: argument.default === null ? "required" : `= ${argument.default}`, info: argument.meaning || undefined,
    })) };
  }
  const options = VALUES.map((label) => ({ label, type: "constant" }));
  const argument = mapping ? undefined : known[position(text)];
  if (argument) {
    options.unshift({
      label: argument.default ?? argument.name, displayLabel: argument.default ?? argument.name, type: "text",
      apply: argument.default ?? "", boost: 50, info: argument.meaning || undefined,
      detail: `${argument.name}${argument.default === null ? " (required)" : " (default)"}`,
    });
  }
  return { from, options };
}

/** Number of the argument after an opened list: the commas outside of inner brackets. */
function position(text) {
  let depth = 0, commas = 0;
  for (const character of text.slice(1)) {
    if ("[{".includes(character)) depth += 1;
    else if ("]}".includes(character)) depth -= 1;
    else if (character === "," && !depth) commas += 1;
  }
  return commas;
}

export function describe(module) {
  return h("div", { class: "description" },
    h("code", { class: "signature" }, module.signature ?? module.name),
    h("p", {}, module.purpose ?? ""),
    module.arguments?.length ? h("dl", {}, module.arguments.flatMap((argument) => [
      h("dt", {}, argument.default === null ? argument.name : `${argument.name} = ${argument.default}`),
      h("dd", {}, argument.meaning || "—")])) : null,
    module.source ? h("p", { class: "source" }, module.source) : null,
    module.example ? h("code", { class: "example" }, module.example) : null);
}

export function moduleHover(catalog) {
  return hoverTooltip((view, pos) => {
    const line = view.state.doc.lineAt(pos);
    for (const match of line.text.matchAll(/[A-Za-z_][\w.]*/g)) {
      const from = line.from + match.index, to = from + match[0].length;
      const module = from <= pos && pos <= to ? catalog.find(match[0]) : undefined;
      if (module?.signature) {
        return { pos: from, end: to, create: () => ({ dom: h("div", { class: "hover" }, describe(module)) }) };
      }
    }
    return null;
  });
}
