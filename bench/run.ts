import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "tsup";
import { base } from "../tsup.base.js";
import { measureFanOut } from "./fan-out.js";
import { sampleFrame } from "./payload.js";
import { measurePolls } from "./polls.js";
import { page, table } from "./report.js";
import { here, readSettings } from "./settings.js";

/**
 * `npm run bench [-- --quick] [-- --write] [-- --profile]`: prints what a delivered update, an idle
 * viewer and a poll cost, beside their peers. `--write` writes docs/benchmarks.md.
 */

const settings = readSettings(process.argv.slice(2));
const log = (line: string) => console.error(`… ${line}`);

// Children run what users would: the packages as their build makes them, not as tsx does.
await build({
  ...base,
  config: false,
  entry: ["server", "viewers", "poller"].map((name) => join(here, `${name}.ts`)),
  outDir: join(here, "dist"),
  format: ["esm"],
  tsconfig: join(here, "..", "tsconfig.json"),
  dts: false,
  skipNodeModulesBundle: true,
  noExternal: [/^@org\//],
  silent: true,
});

const from = performance.now();
const frame = await sampleFrame();
const results = {
  settings,
  fanOut: await measureFanOut(settings, frame, log),
  polls: await measurePolls(settings, frame, log),
};
log(`took ${Math.round((performance.now() - from) / 1_000)} s`);

console.log(`\n${table(results)}\n`);
if (settings.write) {
  writeFileSync(join(here, "..", "docs", "benchmarks.md"), page(results));
  log("wrote docs/benchmarks.md");
}
