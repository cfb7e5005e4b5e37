import {
  allowAll,
  type Batch,
  type Cursor,
  createWorkflowMonitor,
  type JobRecord,
  type JobState,
  type JobStore,
  type PublishedEvent,
  type WorkflowMonitor,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import { type RedisStoreOptions, redisStore } from "@org/workflow-monitor-redis";
import { onTestFinished, vi } from "vitest";
import { diff, ORIGIN } from "../../packages/core/src/revision.js";
import { emptyJob } from "../../packages/core/src/snapshot.js";
import { inTime } from "../support/wait.js";

// Reconnects wait up to 2 s, and several of them are waited for: patience, not a measure.
vi.setConfig({ testTimeout: 30_000 });

export type Store = JobStore & Required<Pick<JobStore, "list" | "health" | "connection">>;

const TTL_MS = 3_600_000;
const CREATED = "2026-01-01T00:00:00.000Z";

/** A store on a Redis of 127.0.0.1, or wherever `options` say, closed at the end of the test. */
export function storeOn(port: number | undefined, options: RedisStoreOptions = {}): Store {
  const url = `redis://127.0.0.1:${port}`;
  const store = redisStore({ ...(port !== undefined && { url }), ...options }) as Store;
  onTestFinished(() => store.close());
  return store;
}

/** Resolves when the store says that it is there. */
export async function there(store: Store): Promise<void> {
  await is(store, true);
}

/** Resolves when the store says that it is away. */
export async function away(store: Store): Promise<void> {
  await is(store, false);
}

async function is(store: Store, state: boolean): Promise<void> {
  let stop = () => {};
  const told = new Promise<void>((resolve) => {
    stop = store.connection((now) => {
      if (now === state) resolve();
    });
  });
  try {
    await inTime(`the store is ${state ? "there" : "away"}`, told, 10_000);
  } finally {
    stop();
  }
}

export interface Publisher {
  store: Store;
  monitor: WorkflowMonitor;
  /** Publishes an event of type `job`, of the job `j` unless it names another. */
  say(fields: Partial<PublishedEvent>): Promise<Cursor>;
}

/** A monitor with a store of its own, closed at the end of the test. */
export function publisherOn(
  port: number | undefined,
  {
    store: storeOptions = {},
    ...options
  }: { store?: RedisStoreOptions } & Partial<Omit<WorkflowMonitorOptions, "store">> = {},
): Publisher {
  const store = storeOn(port, storeOptions);
  const monitor = createWorkflowMonitor({ authorize: allowAll, store, drainMs: 200, ...options });
  onTestFinished(() => inTime("monitor.close()", monitor.close()));
  const say: Publisher["say"] = (fields) =>
    monitor.publish({ type: "job", jobId: "j", ...fields } as PublishedEvent);
  return { store, monitor, say };
}

let made = 0;

/** A batch of `revisions` events that differ from all others; each one changes `fields`. */
export function batchOf(
  jobId: string,
  revisions: number,
  fields: Partial<JobState> = {},
  more: Partial<Batch> = {},
): Batch {
  const before = emptyJob(jobId, CREATED);
  const job = { ...before, ...fields };
  const patch = diff(before, job);
  return {
    id: `batch-${++made}`,
    revisions: Array.from({ length: revisions }, () => ({
      event: JSON.stringify({ type: "job", timestamp: CREATED, message: `event ${++made}` }),
      patch,
    })),
    job,
    ttlMs: TTL_MS,
    ...more,
  };
}

/** A batch of one event that makes `after` of `before`: what a publisher appends. */
export function changeOf(before: JobState, after: JobState, event = `event ${++made}`): Batch {
  return {
    id: `batch-${++made}`,
    revisions: [{ event: JSON.stringify({ message: event }), patch: diff(before, after) }],
    job: after,
    ttlMs: TTL_MS,
  };
}

/** Appends to the head; fails when the log is not there any more. */
export async function append(store: JobStore, base: Cursor | null, batch: Batch): Promise<Cursor> {
  const cursor = await store.append(batch.job.jobId, base, batch);
  if (!cursor) throw new Error(`the log of ${batch.job.jobId} is not at the base any more`);
  return cursor;
}

/** All there is of a job; fails when it is unknown. */
export async function whole(
  store: JobStore,
  jobId = "j",
): Promise<JobRecord & { job: JobState; events: string[] }> {
  const record = await store.read(jobId, ORIGIN);
  if (!record?.job || !record.events) throw new Error(`no such job: ${jobId}`);
  return { ...record, job: record.job, events: record.events };
}

/** The `message` of each event. */
export const messages = (events: string[]): string[] =>
  events.map((text) => (JSON.parse(text) as { message: string }).message);

/** Looks again and again until something holds; rejects after 10 s. */
export async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 10_000; ; ) {
    if (await holds()) return;
    if (Date.now() > end) throw new Error(`waited 10 s in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** `range(3)`: 0, 1, 2. */
export const range = (count: number): number[] => Array.from({ length: count }, (_, at) => at);
