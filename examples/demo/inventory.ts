// A real workflow as plain async code: five stages, two of them side by side, told by `monitor.run`.
import type { PlannedStage, WorkflowMonitor } from "@org/workflow-monitor";
import {
  compress,
  findDuplicates,
  type HashedFile,
  hash,
  pickSample,
  scan,
  writeReport,
} from "./stages.js";

/** The weights are seconds, roughly: a percentage that moves evenly is one that people trust. */
const stages: PlannedStage[] = [
  { stage: "scan", name: "Scan the folder", weight: 15 },
  { stage: "hash", name: "Hash every file", weight: 65, dependsOn: ["scan"] },
  { stage: "duplicates", name: "Find duplicates", weight: 1, dependsOn: ["hash"] },
  { stage: "compress", name: "Compress a sample", weight: 15, dependsOn: ["hash"] },
  { stage: "report", name: "Write the report", weight: 4, dependsOn: ["duplicates", "compress"] },
];

export interface InventoryOptions {
  /** What the job is about, for people. */
  name: string;
  folder: string;
  signal: AbortSignal;
}

/** Takes the inventory of a folder; resolves to the path of the report. */
export function takeInventory(
  monitor: WorkflowMonitor,
  jobId: string,
  { name, folder, signal }: InventoryOptions,
): Promise<string> {
  return monitor.run(jobId, { name, stages, signal }, async ({ stage }) => {
    const found = await stage("scan", (context) => scan(folder, context));
    const hashed = await stage("hash", (context) => hash(found.files, context));
    const [duplicates, compression] = await Promise.all([
      stage("duplicates", (context) => findDuplicates(hashed, context)),
      stage("compress", (context) => compress(sampleOf(hashed), context)),
    ]);
    return stage("report", (context) =>
      writeReport(folder, { found, hashed, duplicates, compression }, context),
    );
  });
}

/** As good as chance, and the same every time. */
const sampleOf = (files: HashedFile[]) => pickSample(files, ({ sha256 }) => sha256);
