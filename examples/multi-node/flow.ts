// The inventory of examples/demo as a BullMQ Flow: each stage is a job of its own, for any worker to take.
import type { FlowJob } from "bullmq";

export const QUEUE = "inventory";

/** What a worker is told; results go through files, since a Flow is no place for megabytes. */
export interface Task {
  stage: Stage | "inventory";
  folder: string;
  /** The folder of the job's results: that of a stage is `<stage>.json`. All workers see it. */
  results: string;
}

export type Stage = "scan" | "hash" | "duplicates" | "sample" | "compress" | "report";

/** The stage that a BullMQ job stands for, by its id. */
export const stageOf = (id: string): string => id.slice(id.lastIndexOf(".") + 1);

export interface Inventory extends Omit<Task, "stage"> {
  jobId: string;
  name: string;
}

/**
 * A Flow is a tree: what is done first are its leaves, and a result goes to one parent. So what is
 * compressed is not chosen from what was hashed, as in the demo, but by a stage of its own, and two
 * workers have something to do from the beginning.
 */
export function flowOf({ jobId, name, ...where }: Inventory): FlowJob {
  const node = (stage: Task["stage"], title: string, ...children: FlowJob[]): FlowJob => ({
    name: title,
    queueName: QUEUE,
    data: { stage, ...where } satisfies Task,
    opts: {
      jobId: stage === "inventory" ? jobId : `${jobId}.${stage}`,
      failParentOnFailure: true,
      removeOnComplete: KEPT,
      removeOnFail: KEPT,
    },
    children,
  });
  const scan = node("scan", "Scan the folder");
  const hash = node("hash", "Hash every file", scan);
  const duplicates = node("duplicates", "Find duplicates", hash);
  const sample = node("sample", "Choose a sample");
  const compress = node("compress", "Compress the sample", sample);
  const report = node("report", "Write the report", duplicates, compress);
  return node("inventory", name, report);
}

/** By BullMQ, and in seconds: the monitor keeps its own record. */
const KEPT = { age: 3_600 };
