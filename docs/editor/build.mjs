// Bundles the page of `graftdet edit` into models/editor/static: `make editor`.
import { build } from "esbuild";
import { copyFile, readFile, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "../../models/editor/static");

const result = await build({
  entryPoints: { editor: join(here, "src/main.js") },
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome109", "firefox115", "safari16"],
  charset: "utf8",
  legalComments: "none",
  metafile: true,
  outdir: out,
});
await build({ entryPoints: [join(here, "src/editor.css")], minify: true, outdir: out });
await copyFile(join(here, "src/index.html"), join(out, "index.html"));

const packages = new Set();
for (const input of Object.keys(result.metafile.inputs)) {
  const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
  if (found) packages.add(found[1]);
}
const parts = ["Packages that are bundled in editor.js, and their licenses."];
for (const name of [...packages].sort()) {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file ? (await readFile(join(folder, file), "utf8")).trim() : "";
  parts.push(`${"=".repeat(80)}\n${name} ${version} (${license})\n\n${text}`);
}
await writeFile(join(out, "LICENSES.txt"), parts.join("\n\n") + "\n");
