// A worker: takes one stage at a time, whichever is next, and tells BullMQ how far it is. It knows no monitor.
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { StageContext } from "@org/workflow-monitor";
import { type Job, Worker } from "bullmq";
import * as stages from "../demo/stages.js";
import { QUEUE, type Stage, type Task } from "./flow.js";
import { redis, reportOnce, tellReady } from "./process.js";
import { tellProgress } from "./progress.js";

type Work = (task: Task, context: StageContext) => Promise<unknown>;

const work: Record<Stage, Work> = {
  scan: ({ folder }, context) => stages.scan(folder, context),
  hash: async (task, context) => {
    const { files } = await resultOf<stages.Found>(task, "scan");
    return stages.hash(files, context);
  },
  duplicates: async (task, context) =>
    stages.findDuplicates(await resultOf<stages.HashedFile[]>(task, "hash"), context),
  sample: async ({ folder }, context) => {
    const { files } = await stages.scan(folder, context);
    const byPath = ({ path }: stages.File) => createHash("sha1").update(path).digest("hex");
    return stages.pickSample(files, byPath);
  },
  compress: async (task, context) =>
    stages.compress(await resultOf<stages.File[]>(task, "sample"), context),
  report: async (task, context) => {
    const findings = {
      found: await resultOf<stages.Found>(task, "scan"),
      hashed: await resultOf<stages.HashedFile[]>(task, "hash"),
      duplicates: await resultOf<stages.Copies[]>(task, "duplicates"),
      compression: await resultOf<stages.Findings["compression"]>(task, "compress"),
    };
    return stages.writeReport(task.folder, findings, context);
  },
};

const fileOf = ({ results }: Task, stage: Stage) => join(results, `${stage}.json`);

async function resultOf<T>(task: Task, stage: Stage): Promise<T> {
  return JSON.parse(await readFile(fileOf(task, stage), "utf8")) as T;
}

/** A stage that a dead worker has left is done again, from its beginning: it reads the same results. */
async function take(job: Job<Task>): Promise<void> {
  const { data: task, name } = job;
  if (task.stage === "inventory") return; // all of it is done
  console.log(`${name}: try ${job.attemptsStarted}`);
  const { context, told } = tellProgress(job);
  const result = await work[task.stage](task, context);
  await mkdir(task.results, { recursive: true });
  await writeFile(fileOf(task, task.stage), JSON.stringify(result));
  await told();
}

const worker = new Worker<Task>(QUEUE, take, {
  connection: { ...redis, maxRetriesPerRequest: null },
  // A dead worker's stage is missed after 5 to 10 s. The default, 30, would be long for a demo.
  lockDuration: 5_000,
  stalledInterval: 5_000,
  maxStalledCount: 10,
});
worker.on("error", reportOnce());
worker.on("stalled", (id) => console.log(`${id} was left by a worker that is gone`));
await worker.waitUntilReady();
tellReady();
