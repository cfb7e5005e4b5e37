import type { JobSnapshot } from "@org/workflow-monitor";
import type { BullmqSourceOptions } from "@org/workflow-monitor-bullmq";
import type { Job, JobsOptions, Worker } from "bullmq";
import { until } from "../support/wait.js";
import type { Watching, World } from "./given.js";

/** The stage on which rows of the event table are played: BullMQ's own commands, one at a time. */
export interface Scene {
  world: World;
  watching: Watching;
  /** Adds a job. */
  add(opts?: JobsOptions, name?: string): Promise<Job>;
  /** Adds a flow: a root with these children, and perhaps a child of the first of them. */
  flow(options?: JobsOptions, grandchild?: boolean): Promise<Job>;
  /** Takes the next job, as a worker does. */
  take(queue?: string): Promise<Job>;
  complete(job: Job): Promise<unknown>;
  fail(job: Job, message?: string): Promise<unknown>;
  /** What is emitted from here on is what the row is about. */
  mark(): Promise<void>;
}

export interface Row {
  /** What happens in BullMQ. */
  happens: string;
  mode: "job" | "flow";
  /** What is emitted, in short. */
  says: string[];
  /** What a viewer sees then. */
  sees: string;
  play(scene: Scene): Promise<Job>;
  options?: Partial<BullmqSourceOptions>;
}

export function createScene(world: World, { mode, options }: Row): Scene {
  const watching = world.watch({ mode, ...options });
  const manual = new Map<string, Worker>();
  const at = { queueName: "work", data: {} };

  async function take(queue = "work"): Promise<Job> {
    let worker = manual.get(queue);
    if (!worker) {
      worker = await world.worker(queue, undefined as never, { autorun: false });
      manual.set(queue, worker);
    }
    const job = await worker.getNextJob("token");
    if (!job) throw new Error(`queue ${queue} has no job to take`);
    return job;
  }

  return {
    world,
    watching,
    add: (opts = {}, name = "resize") => world.queue().add(name, {}, { jobId: "j", ...opts }),
    async flow(opts = {}, grandchild = false) {
      const below = grandchild ? [{ ...at, name: "g", opts: { jobId: "g" } }] : [];
      const { job } = await world.flows.add({
        ...{ ...at, name: "root", opts: { jobId: "j" } },
        children: [
          { ...at, name: "a", opts: { jobId: "a", ...opts }, children: below },
          { ...at, name: "b", opts: { jobId: "b" } },
        ],
      });
      return job;
    },
    take,
    complete: (job) => job.moveToCompleted("done", "token", false),
    fail: (job, message = "boom") => job.moveToFailed(new Error(message), "token", false),
    async mark() {
      await settled({ world, watching });
      watching.emitted.length = 0;
    },
  };
}

let fences = 0;

/**
 * Until all that has happened is emitted: a job that was added later is. Twice, since before it tells
 * a job's end the source looks at all of it again.
 */
export async function settled({
  world,
  watching,
}: Pick<Scene, "world" | "watching">): Promise<void> {
  for (const _ of ["once", "twice"]) {
    const fence = await world.queue().add("fence", {}, { jobId: `fence-${++fences}`, delay: 1e6 });
    const isFence = ({ event }: { event: { jobId: string } }) => event.jobId === fence.id;
    await until("the fence is told", () => watching.emitted.some(isFence), 15_000);
    watching.emitted.splice(0, Infinity, ...watching.emitted.filter((said) => !isFence(said)));
  }
}

/** A job as a viewer sees it, in a line. */
export function picture(job: JobSnapshot): string {
  const { status, reason, progress, stages, message, error } = job;
  const words = [
    status,
    reason && `(${reason})`,
    progress > 0 && progress < 100 && `${progress} %`,
  ];
  if (message) words.push(`“${message}”`);
  if (error) words.push(`!${error.message}`);
  const parts = stages.map((stage) =>
    [
      stage.attempt > 1 ? `${stage.stage}#${stage.attempt}` : stage.stage,
      stage.status,
      stage.reason && `(${stage.reason})`,
      stage.progress > 0 && stage.progress < 100 && `${stage.progress} %`,
    ]
      .filter(Boolean)
      .join(" "),
  );
  const head = words.filter(Boolean).join(" ");
  return parts.length > 0 ? `${head}; ${parts.join(", ")}` : head;
}

const named: Partial<BullmqSourceOptions> = { stageId: ({ id }) => id };

export const rows: Row[] = [
  {
    happens: "a job is added",
    mode: "job",
    says: ["job pending"],
    sees: "pending",
    play: (scene) => scene.add(),
  },
  {
    happens: "a job is added with a delay",
    mode: "job",
    says: ["job pending (delayed)"],
    sees: "pending (delayed)",
    play: (scene) => scene.add({ delay: 60_000 }),
  },
  {
    happens: "a job is added to a queue that is paused",
    mode: "job",
    says: ["job pending (paused)"],
    sees: "pending (paused)",
    async play({ world, add }) {
      await world.queue().pause();
      return add();
    },
  },
  {
    happens: "the queue is resumed",
    mode: "job",
    says: ["job pending"],
    sees: "pending",
    async play({ world, add, mark }) {
      await world.queue().pause();
      const job = await add();
      await mark();
      await world.queue().resume();
      return job;
    },
  },
  {
    happens: "a worker takes the job",
    mode: "job",
    says: ["job running"],
    sees: "running",
    async play({ add, take, mark }) {
      await add();
      await mark();
      return take();
    },
  },
  {
    happens: 'progress `40`, `"40"`, `{ progress: 40 }` or `{ current: 2, total: 5 }`',
    mode: "job",
    says: ["job 2/5"],
    sees: "running 40 %",
    async play({ add, take, mark }) {
      await add();
      const job = await take();
      await mark();
      await job.updateProgress({ current: 2, total: 5 });
      return job;
    },
  },
  {
    happens: 'progress `{ stage: "crop", progress: 50 }`',
    mode: "job",
    says: ["stage crop running 50 %"],
    sees: "running; crop running 50 %",
    async play({ add, take, mark }) {
      await add();
      const job = await take();
      await mark();
      await job.updateProgress({ stage: "crop", progress: 50 });
      return job;
    },
  },
  {
    happens: 'progress `{ stage: "crop", status: "completed" }`',
    mode: "job",
    says: ["stage crop completed"],
    sees: "running; crop completed",
    async play({ add, take, mark }) {
      await add();
      const job = await take();
      await job.updateProgress({ stage: "crop", progress: 50 });
      await mark();
      await job.updateProgress({ stage: "crop", status: "completed" });
      return job;
    },
  },
  {
    happens: 'progress `{ stages: ["crop", "save"] }`',
    mode: "job",
    says: ["plan crop save"],
    sees: "running; crop pending, save pending",
    async play({ add, take, mark }) {
      await add();
      const job = await take();
      await mark();
      await job.updateProgress({ stages: ["crop", "save"] });
      return job;
    },
  },
  {
    happens: 'progress `"almost there"` or `{ message: "almost there" }`',
    mode: "job",
    says: ["job “almost there”"],
    sees: "running “almost there”",
    async play({ add, take, mark }) {
      await add();
      const job = await take();
      await mark();
      await job.updateProgress("almost there");
      return job;
    },
  },
  {
    happens: "a try fails, another is due at once or later",
    mode: "job",
    says: ["stage crop failed !boom", "job waiting (retrying) !boom"],
    sees: "waiting (retrying) !boom; crop failed 50 %",
    async play({ add, take, fail, mark }) {
      await add({ attempts: 2, backoff: 60_000 });
      const job = await take();
      await job.updateProgress({ stage: "crop", progress: 50 });
      await mark();
      await fail(job);
      return job;
    },
  },
  {
    happens: "the next try begins, and reports",
    mode: "job",
    says: ["job running", "stage crop#2 running 10 %"],
    sees: "running; crop#2 running 10 %",
    async play({ add, take, fail, mark }) {
      await add({ attempts: 2 });
      const first = await take();
      await first.updateProgress({ stage: "crop", progress: 50 });
      await fail(first);
      await mark();
      const job = await take();
      await job.updateProgress({ stage: "crop", progress: 10 });
      return job;
    },
  },
  {
    happens: "the job stalls: its worker died",
    mode: "job",
    says: ["job waiting (stalled)"],
    sees: "waiting (stalled)",
    async play({ world, add, mark }) {
      const job = await add();
      const dying = await world.worker("work", undefined as never, {
        ...{ autorun: false, lockDuration: 50, stalledInterval: 60 },
      });
      await dying.getNextJob("token");
      await mark();
      await dying.startStalledCheckTimer();
      return job;
    },
  },
  {
    happens: "the job puts itself off (`moveToDelayed`)",
    mode: "job",
    says: ["job waiting (delayed)"],
    sees: "waiting (delayed)",
    async play({ add, take, mark }) {
      await add();
      const job = await take();
      await mark();
      await job.moveToDelayed(Date.now() + 60_000, "token");
      return job;
    },
  },
  {
    happens: "the job goes back to the queue, as when its rate is limited",
    mode: "job",
    says: ["job waiting (requeued)"],
    sees: "waiting (requeued)",
    async play({ add, take, mark }) {
      await add();
      const job = await take();
      await mark();
      await job.moveToWait("token");
      return job;
    },
  },
  {
    happens: "the job completes",
    mode: "job",
    says: ["job completed"],
    sees: "completed; crop completed (implied)",
    async play({ add, take, complete, mark }) {
      await add();
      const job = await take();
      await job.updateProgress({ stage: "crop", progress: 50 });
      await mark();
      await complete(job);
      return job;
    },
  },
  {
    happens: "the job fails, and no try is left",
    mode: "job",
    says: ["stage crop failed !boom", "job failed !boom"],
    sees: "failed !boom; crop failed 50 %",
    async play({ add, take, fail, mark }) {
      await add();
      const job = await take();
      await job.updateProgress({ stage: "crop", progress: 50 });
      await mark();
      await fail(job);
      return job;
    },
  },
  {
    happens: "the job is removed before its end",
    mode: "job",
    says: ["job cancelled (removed)"],
    sees: "cancelled (removed)",
    async play({ add, mark }) {
      const job = await add();
      await mark();
      await job.remove();
      return job;
    },
  },
  {
    happens: "a job that is over is retried by hand",
    mode: "job",
    says: ["job of run 2 pending"],
    sees: "pending",
    async play({ add, take, fail, mark }) {
      await add();
      const job = await take();
      await fail(job);
      await mark();
      await job.retry();
      return job;
    },
  },
  {
    happens: "the id of a job that was removed is used again",
    mode: "job",
    says: ["job of run 2 pending"],
    sees: "pending",
    async play({ add, take, complete, mark }) {
      await add({ removeOnComplete: true });
      await complete(await take());
      await mark();
      return add();
    },
  },
  {
    happens: "a flow is added",
    mode: "flow",
    says: ["plan g a b", "stage a pending (waiting_children)"],
    sees: "pending; g pending, a pending (waiting_children), b pending",
    play: ({ flow }) => flow({}, true),
  },
  {
    happens: "a child begins",
    mode: "flow",
    says: ["job running", "stage a running"],
    sees: "running; a running, b pending",
    async play({ flow, take, mark }) {
      const root = await flow();
      await mark();
      await take();
      return root;
    },
  },
  {
    happens: "a child reports progress",
    mode: "flow",
    says: ["stage a 40 %"],
    sees: "running 20 %; a running 40 %, b pending",
    async play({ flow, take, mark }) {
      const root = await flow();
      const child = await take();
      await mark();
      await child.updateProgress(40);
      return root;
    },
  },
  {
    happens: "a child completes",
    mode: "flow",
    says: ["stage a completed"],
    sees: "running 50 %; a completed, b pending",
    async play({ flow, take, complete, mark }) {
      const root = await flow();
      const child = await take();
      await mark();
      await complete(child);
      return root;
    },
  },
  {
    happens: "a child's try fails, another is due",
    mode: "flow",
    says: ["stage a failed !boom", "stage a#2 pending (retrying)"],
    sees: "running; a#2 pending (retrying), b pending",
    async play({ flow, take, fail, mark }) {
      const root = await flow({ attempts: 2, backoff: 60_000 });
      const child = await take();
      await mark();
      await fail(child);
      return root;
    },
  },
  {
    happens: "a child fails without an option: its parent waits for ever",
    mode: "flow",
    says: ["job waiting (child_failed)", "stage a failed !boom"],
    sees: "waiting (child_failed) 50 %; a failed, b completed",
    async play({ flow, take, complete, fail, mark }) {
      const root = await flow();
      const [a, b] = [await take(), await take()];
      await complete(b);
      await mark();
      await fail(a);
      return root;
    },
  },
  {
    happens: "a child fails with `failParentOnFailure`, and a worker ends its parent",
    mode: "flow",
    says: ["stage a failed !boom", "job failed !child bull:work:a failed"],
    sees: "failed !child bull:work:a failed; a failed, b cancelled (job_failed)",
    async play({ world, flow, take, fail, mark }) {
      const root = await flow({ failParentOnFailure: true });
      const [a] = [await take(), await take()];
      await mark();
      await fail(a);
      await world.worker("work", async () => {});
      return root;
    },
  },
  {
    happens: "a child fails with `ignoreDependencyOnFailure`",
    mode: "flow",
    says: ["stage a failed !boom"],
    sees: "running; a failed, b pending",
    async play({ flow, take, fail, mark }) {
      const root = await flow({ ignoreDependencyOnFailure: true });
      const child = await take();
      await mark();
      await fail(child);
      return root;
    },
  },
  {
    happens: "a child fails with `removeDependencyOnFailure`",
    mode: "flow",
    says: ["stage a failed !boom"],
    sees: "running; a failed, b pending",
    async play({ flow, take, fail, mark }) {
      const root = await flow({ removeDependencyOnFailure: true });
      const child = await take();
      await mark();
      await fail(child);
      return root;
    },
  },
  {
    happens: "a child fails with `continueParentOnFailure`, and its parent is taken",
    mode: "flow",
    says: ["stage a failed !boom"],
    sees: "running; a failed, b running",
    async play({ flow, take, fail, mark }) {
      const root = await flow({ continueParentOnFailure: true });
      const [a] = [await take(), await take()];
      await mark();
      await fail(a);
      await take();
      return root;
    },
  },
  {
    happens: "a child is retried by hand",
    mode: "flow",
    says: ["stage a#2 pending (retrying)"],
    sees: "running; a#2 pending (retrying), b pending",
    async play({ flow, take, fail, mark }) {
      const root = await flow();
      const child = await take();
      await fail(child);
      await mark();
      await child.retry();
      return root;
    },
  },
  {
    happens: "a child is removed",
    mode: "flow",
    says: ["stage b cancelled (removed)"],
    sees: "running; a pending, b cancelled (removed)",
    async play({ world, flow, mark }) {
      const root = await flow();
      await mark();
      await world.queue().remove("b");
      return root;
    },
  },
  {
    happens: "a child is added while the flow runs",
    mode: "flow",
    says: ["plan a b late"],
    sees: "running; a running, b pending, late pending",
    async play({ world, flow, take, mark }) {
      const root = await flow();
      await take();
      await mark();
      const parent = { id: "j", queue: root.queueQualifiedName };
      await world.queue().add("late", {}, { jobId: "late", parent });
      return root;
    },
  },
  {
    happens: "the children are done, the root is taken",
    mode: "flow",
    says: ["job “writing”"],
    sees: "running 99 % “writing”; a completed, b completed",
    async play({ flow, take, complete, mark }) {
      const root = await flow();
      await complete(await take());
      await complete(await take());
      await mark();
      const same = await take();
      await same.updateProgress("writing");
      return root;
    },
  },
  {
    happens: "the root completes",
    mode: "flow",
    says: ["job completed"],
    sees: "completed; a completed, b completed",
    async play({ flow, take, complete, mark }) {
      const root = await flow();
      await complete(await take());
      await complete(await take());
      const same = await take();
      await mark();
      await complete(same);
      return root;
    },
  },
  {
    happens: "the root's try fails, another is due",
    mode: "flow",
    says: ["job waiting (retrying) !boom"],
    sees: "waiting (retrying) 99 % !boom; a completed",
    async play({ world, take, fail, mark }) {
      const { job } = await world.flows.add({
        ...{ name: "root", queueName: "work", opts: { jobId: "j", attempts: 2, backoff: 60_000 } },
        children: [{ name: "a", queueName: "work", opts: { jobId: "a" } }],
      });
      await (await take()).moveToCompleted("done", "token", false);
      const root = await take();
      await mark();
      await fail(root);
      return job;
    },
  },
];
for (const row of rows) if (row.mode === "flow") row.options = named;
