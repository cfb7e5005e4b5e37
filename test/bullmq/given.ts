import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  allowAll,
  createWorkflowMonitor,
  type JobSnapshot,
  type JobStore,
  type WorkflowMonitor,
} from "@org/workflow-monitor";
import {
  type BullmqSource,
  type BullmqSourceOptions,
  bullmqSource,
} from "@org/workflow-monitor-bullmq";
import { FlowProducer, type Processor, Queue, Worker, type WorkerOptions } from "bullmq";
import { afterAll, beforeAll, test, vi } from "vitest";
import { type RedisServer, startRedis } from "../support/redis.js";

// Everything here waits for conditions. On a machine that is busy they come late, not never.
vi.setConfig({ testTimeout: 40_000, hookTimeout: 40_000 });

/** Something that the source emitted. */
export interface Emitted {
  type: "plan" | "job" | "stage";
  // biome-ignore lint/suspicious/noExplicitAny: tests look at what they expect
  event: any;
}

/** A source that a monitor listens to, and everything that both said. */
export interface Watching {
  source: BullmqSource;
  monitor: WorkflowMonitor;
  emitted: Emitted[];
  /** What the source and the monitor complained of. */
  complaints: string[];
  /** Waits until the job is so. Rejects with what it is instead. */
  until(
    jobId: string,
    what: string,
    holds: (job: JobSnapshot) => boolean,
    ms?: number,
  ): Promise<JobSnapshot>;
  close(): Promise<void>;
}

/** Queues, workers and sources of one test, under a prefix of its own. */
export interface World {
  prefix: string;
  connection: { port: number; retryStrategy(): number };
  queue(name?: string): Queue;
  /** Waits until it takes jobs. */
  worker(name: string, process: Processor, options?: Partial<WorkerOptions>): Promise<Worker>;
  flows: FlowProducer;
  watch(options?: Partial<BullmqSourceOptions>, store?: JobStore): Watching;
  close(): Promise<void>;
}

export function createWorld(redis: RedisServer): World {
  const prefix = `t-${randomUUID().slice(0, 8)}`;
  const connection = { port: redis.port, retryStrategy: () => 50 };
  const closers: (() => Promise<unknown>)[] = [];
  const quiet = { connection, prefix };
  const queues = new Map<string, Queue>();
  const flows = new FlowProducer(quiet);
  closers.push(() => flows.close());
  flows.on("error", () => {});

  return {
    prefix,
    connection,
    flows,
    queue(name = "work") {
      const known = queues.get(name);
      if (known) return known;
      const queue = new Queue(name, quiet);
      queue.on("error", () => {});
      queues.set(name, queue);
      closers.push(() => queue.close());
      return queue;
    },
    async worker(name, process, options = {}) {
      const worker = new Worker(name, process, { ...quiet, drainDelay: 1, ...options });
      worker.on("error", () => {});
      closers.push(() => worker.close(true));
      await worker.waitUntilReady();
      return worker;
    },
    watch(options = {}, store) {
      const watching = createWatching(
        { queues: ["work"], mode: "job", ...quiet, ...options },
        store,
      );
      closers.push(() => watching.close());
      return watching;
    },
    async close() {
      await Promise.all(closers.map((close) => close()));
    },
  };
}

function createWatching(options: BullmqSourceOptions, store?: JobStore): Watching {
  const complaints: string[] = [];
  const source = bullmqSource({ onError: ({ message }) => complaints.push(message), ...options });
  const monitor = createWorkflowMonitor({ authorize: allowAll, ...(store && { store }) });
  monitor.on("error", ({ message }) => complaints.push(message));
  const emitted: Emitted[] = [];
  for (const type of ["plan", "job", "stage"] as const) {
    source.on(type, (event: unknown) => emitted.push({ type, event }));
  }
  monitor.attach(source);
  return {
    source,
    monitor,
    emitted,
    complaints,
    async until(jobId, what, holds, ms = 15_000) {
      for (const end = Date.now() + ms; ; ) {
        const job = await monitor.get(jobId);
        if (job && holds(job)) return job;
        if (Date.now() > end) {
          const seen = job ? JSON.stringify(job).slice(0, 2_000) : "unknown";
          throw new Error(`waited ${ms} ms in vain until job ${jobId} ${what}: it is ${seen}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    async close() {
      await source.close();
      await monitor.close();
    },
  };
}

/** Tests of a file or a group that share a Redis, each in a world of its own. */
export function inWorlds() {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.close());
  return (name: string, run: (world: World, redis: RedisServer) => Promise<void>) =>
    test(name, async () => {
      const world = createWorld(redis);
      try {
        await run(world, redis);
      } finally {
        await world.close();
      }
    });
}

/**
 * Runs code in a process of its own while this one stands still: the source hears of it all at once.
 * The code has a `queue` and a `worker` of the name `work` that is moved by hand.
 */
export function meanwhile(world: World, code: string): void {
  const script = `
    const { Queue, Worker } = require("bullmq");
    const options = { connection: { port: ${world.connection.port} }, prefix: "${world.prefix}" };
    const queue = new Queue("work", options);
    const worker = new Worker("work", null, { ...options, autorun: false });
    (async () => {
      ${code}
      await worker.close();
      await queue.close();
    })();`;
  execFileSync(process.execPath, ["-e", script]);
}

/** Something that others wait for. */
interface Gate {
  open(): void;
  fail(error: Error): void;
  readonly opened: Promise<void>;
}

export function gate(): Gate {
  let open!: () => void;
  let fail!: (error: Error) => void;
  const opened = new Promise<void>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  opened.catch(() => {});
  return { open, fail, opened };
}

/** An event in few words: `stage a#2 running (why) 40 %`. */
export function shorten({ type, event }: Emitted): string {
  const { stage, stages, status, reason, attempt, progress, error, message, run } = event;
  const words: string[] = [type];
  if (run !== undefined) words[0] = `${type} of run ${run}`;
  if (stages) words.push(stages.map((planned: { stage: string }) => planned.stage).join(" "));
  if (stage) words.push(attempt > 1 ? `${stage}#${attempt}` : stage);
  if (status) words.push(status);
  if (reason) words.push(`(${reason})`);
  if (typeof progress === "number") words.push(`${progress} %`);
  else if (progress) words.push(`${progress.current}/${progress.total ?? "?"}`);
  if (message) words.push(`“${message}”`);
  if (error) words.push(`!${error.message ?? error}`);
  return words.join(" ");
}
