// What a page loads, minified and gzipped, against what was promised. Ends with 1 when it is more.
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const KIB = 1024;

/** What is loaded at once, and what only on demand, by `import()`. In bytes. */
async function measure(entry) {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outdir: "out",
    bundle: true,
    write: false,
    metafile: true,
    minify: true,
    splitting: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    logLevel: "error",
    tsconfig: "tsconfig.json",
  });
  const sizes = new Map(
    outputFiles.map(({ path, contents }) => [
      path.slice(root.length),
      gzipSync(contents, { level: 9 }).length,
    ]),
  );
  const outputs = Object.entries(metafile.outputs);
  const first = outputs.find(([, { entryPoint }]) => entryPoint === entry)?.[0];
  const atOnce = new Set([first]);
  for (const path of atOnce) {
    for (const { path: next, kind } of metafile.outputs[path].imports) {
      if (kind === "import-statement") atOnce.add(next);
    }
  }
  const sum = (paths) => paths.reduce((total, path) => total + sizes.get(path), 0);
  const all = [...sizes.keys()];
  return { now: sum([...atOnce]), later: sum(all.filter((path) => !atOnce.has(path))) };
}

const promised = [
  { name: "client", entry: "packages/client/src/index.ts", most: 6 * KIB },
  { name: "elements", entry: "packages/elements/src/index.ts", most: 40 * KIB },
];

const kib = (bytes) => `${(bytes / KIB).toFixed(1)} KiB`;
let over = false;
console.log("| package | at once | at most | on demand |\n| --- | --- | --- | --- |");
for (const { name, entry, most } of promised) {
  const { now, later } = await measure(entry);
  over ||= now > most;
  const verdict = now > most ? " **over**" : "";
  console.log(`| ${name} | ${kib(now)}${verdict} | ${kib(most)} | ${later ? kib(later) : "–"} |`);
}
if (over) process.exitCode = 1;
