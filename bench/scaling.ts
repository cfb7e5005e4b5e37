import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildChildren } from "./build.js";
import { sampleFrame } from "./payload.js";
import { type Amounts, type Case, type Measured, measureCase } from "./scaling/cases.js";
import { calibrate, meanOf } from "./scaling/compare.js";
import type { UnitCosts } from "./scaling/model.js";
import { scalingSection } from "./scaling/report.js";
import { here } from "./settings.js";

/**
 * `npm run bench:scaling [-- --quick] [-- --write]`: measures clusters of two and four web nodes on one
 * Redis, and compares them with the model of docs/scaling.md, whose constants come from clusters of no
 * node and of one. `--write` writes the tables into that page.
 */

const FULL: Amounts = { jobs: 50, viewersOfJob: 40, rate: 10, seconds: 4, rounds: 5 };
const QUICK: Amounts = { jobs: 10, viewersOfJob: 40, rate: 4, seconds: 1, rounds: 2 };
/** Viewers of a job, for the slope. */
const FEW = 8;
/** Who only hear: what an announcement costs is little beside an append. */
const LISTENERS = 16;
/** Updates a second of each job: what is done seldom costs more each time. */
const SELDOM = 2;
/** As busy as the machine can have it beside its viewers. */
const BUSY = { rate: 40, few: { viewersOfJob: 4 }, many: { viewersOfJob: 12 } };

const args = process.argv.slice(2);
const unknown = args.find((arg) => arg !== "--quick" && arg !== "--write");
if (unknown) throw new Error(`${unknown}: know --quick and --write.`);
const amounts = args.includes("--quick") ? QUICK : FULL;
const log = (line: string) => console.error(`… ${line}`);

const outDir = join(here, "dist", "scaling");
await buildChildren(["server", "viewers", "scaling/publisher"], outDir);

const frame = await sampleFrame();

async function measure(nodes: number, more: Partial<Case> = {}): Promise<Measured> {
  log(`${nodes} nodes ${JSON.stringify(more)}`);
  const one = { ...amounts, nodes, routed: false, listeners: 0, ...more };
  return measureCase(one, frame, (name) => join(outDir, `${name}.js`));
}

async function constants(): Promise<{ unit: UnitCosts; one: Measured }> {
  const many = await measure(1);
  const few = await measure(1, { viewersOfJob: FEW });
  const none = await measure(0);
  const heard = await measure(0, { listeners: LISTENERS });
  return { unit: calibrate({ none, heard, few, many }), one: many };
}

const before = await constants();
const checked = {
  "two nodes": await measure(2),
  "four nodes": await measure(4),
  "four nodes, routed by job": await measure(4, { routed: true }),
  [`two nodes, only ${SELDOM} updates a second of each job`]: await measure(2, { rate: SELDOM }),
};
const after = await constants();
const { rate } = BUSY;
const busy = calibrate({
  none: await measure(0, { rate }),
  heard: await measure(0, { rate, listeners: LISTENERS }),
  few: await measure(1, { rate, ...BUSY.few }),
  many: await measure(1, { rate, ...BUSY.many }),
});
const unit = meanOf(before.unit, after.unit);
const { one } = before;
const section = scalingSection({ amounts, unit, busy, busyRate: rate, one, checked });
console.log(section);

if (args.includes("--write")) {
  const page = join(here, "..", "docs", "scaling.md");
  const text = readFileSync(page, "utf8");
  const [head, , tail] = text.split(/<!-- (?:measured|end of measured) -->/);
  if (tail === undefined) throw new Error("docs/scaling.md has no place for the figures.");
  const parts = [head, "<!-- measured -->\n\n", section, "\n\n<!-- end of measured -->", tail];
  writeFileSync(page, parts.join(""));
  log("wrote docs/scaling.md");
}
process.exit(); // and with it the children that are left
