import {
  allowAll,
  type Batch,
  type Cursor,
  createWorkflowMonitor,
  type JobState,
  type JobStore,
  type MemoryStoreOptions,
  memoryStore,
} from "@org/workflow-monitor";
import { describe, expect, onTestFinished, test } from "vitest";
import { ORIGIN } from "../../packages/core/src/revision.js";
import { emptyJob } from "../../packages/core/src/snapshot.js";
import { ManualClock, turns } from "../support/clock.js";
import { seededRandom } from "../support/random.js";
import { recorder } from "../support/server.js";

const CREATED = "2026-01-01T00:00:00.000Z";
const KEEP = 30_000;
const TTL = 3_600_000;

function create(options: MemoryStoreOptions = {}) {
  const clock = new ManualClock();
  const { logger, lines } = recorder();
  const store = memoryStore({ clock, logger, keepMs: KEEP, ...options });
  onTestFinished(() => store.close());
  const heads = new Map<string, Cursor>();
  let made = 0;

  /** Appends one event of so many bytes. */
  async function say(jobId: string, eventBytes = 100, fields: Partial<JobState> = {}) {
    const job = { ...emptyJob(jobId, CREATED), ...fields };
    const batch: Batch = {
      id: `b${++made}`,
      revisions: [{ event: "x".repeat(eventBytes), patch: fields }],
      job,
      ttlMs: TTL,
    };
    const known = await store.read(jobId);
    const cursor = await store.append(jobId, known?.cursor ?? null, batch);
    if (!cursor) throw new Error("the append lost");
    heads.set(jobId, cursor);
  }
  const end = (jobId: string, bytes?: number) =>
    say(jobId, bytes, { status: "completed", done: true });
  const bytes = () => store.storedBytes?.() ?? Number.NaN;
  /** How many events of each job there still are; undefined: no such job. */
  const events = async (...jobIds: string[]) => {
    const records = await Promise.all(jobIds.map(async (jobId) => store.read(jobId, ORIGIN)));
    return records.map((record) => record?.events?.length);
  };
  return { store, clock, lines, say, end, bytes, events };
}

const KIB = 1024;

describe("[S8] [R15] over the bytes of the memory store", () => {
  test("the sum stays within its limit, whatever is appended", async () => {
    const totalBytes = 400 * KIB;
    const { clock, say, end, bytes } = create({ totalBytes });
    const random = seededRandom(3);
    for (let n = 0; n < 3_000; n++) {
      const jobId = `job-${random.below(200)}`;
      await (random.below(4) === 0 ? end : say)(jobId, random.below(4_000));
      expect(bytes()).toBeLessThanOrEqual(totalBytes);
      if (random.below(10) === 0) clock.advance(10_000);
    }
  });

  test("the history of done jobs goes first, that of the oldest before; their heads stay", async () => {
    const { store, say, end, bytes, events } = create({ totalBytes: 200 * KIB });
    for (const jobId of ["live", "done-1", "done-2", "done-3"]) await say(jobId, 40 * KIB);
    for (const jobId of ["done-1", "done-2", "done-3"]) await end(jobId);
    expect(await events("live", "done-1", "done-2", "done-3")).toEqual([1, 2, 2, 2]);
    await say("live", 40 * KIB);
    expect(await events("live", "done-1", "done-2", "done-3")).toEqual([2, 0, 2, 2]);
    expect((await store.read("done-1"))?.job).toMatchObject({ status: "completed" });
    expect(bytes()).toBeLessThan(200 * KIB);
  });

  test("then done jobs go, the oldest first", async () => {
    const { end, say, events } = create({ totalBytes: 40 * KIB });
    const all = Array.from({ length: 20 }, (_, n) => `done-${n}`);
    for (const jobId of all) await end(jobId, 10);
    await say("live", 20 * KIB);
    const left = await events(...all);
    const gone = left.filter((count) => count === undefined).length;
    expect(gone).toBeGreaterThan(0);
    expect(gone).toBeLessThan(20);
    expect(left).toEqual(all.map((_, n) => (n < gone ? undefined : 0)));
    expect(await events("live")).toEqual([1]);
  });

  test("then the history of others that is not young, then young history, and at last jobs, those silent longest", async () => {
    const { clock, lines, end, say, events } = create({ totalBytes: 200 * KIB });
    await end("done", 10);
    await say("old", 60 * KIB);
    await say("older", 60 * KIB);
    clock.advance(KEEP + 1);
    await say("young", 60 * KIB);
    await say("old", 10);
    expect(lines).toEqual([]);
    await say("new", 60 * KIB);
    expect(await events("done", "older", "old", "young", "new")).toEqual([undefined, 0, 2, 1, 1]);
    await say("new", 60 * KIB);
    expect(await events("older", "old", "young", "new")).toEqual([0, 1, 1, 2]);
    await say("new", 60 * KIB);
    expect(await events("older", "old", "young", "new")).toEqual([0, 1, 0, 3]);
    // Heads alone are too much now.
    for (let n = 0; n < 200; n++) await say(`more-${n}`, 10);
    expect(await events("older", "old", "young", "more-199")).toEqual([
      undefined,
      undefined,
      undefined,
      1,
    ]);
    expect(lines.map(({ level, context, message }) => [level, context.limit, message])).toEqual([
      [
        "warn",
        "totalBytes",
        "the memory store is full of jobs that are not over: raise limits.totalBytes",
      ],
    ]);
  });

  test("what is told to the operator comes once a minute", async () => {
    const { clock, lines, say } = create({ jobs: 1 });
    for (let n = 0; n < 5; n++) await say(`a-${n}`);
    expect(lines).toMatchObject([{ level: "warn", context: { limit: "jobs", jobs: 1 } }]);
    clock.advance(60_000);
    for (let n = 0; n < 5; n++) await say(`b-${n}`);
    expect(lines).toHaveLength(2);
  });

  test("a job that is over the limit alone is kept, without its history", async () => {
    const { store, say, events } = create({ totalBytes: 10 * KIB });
    await say("small");
    await say("big", 50 * KIB, { metadata: "x".repeat(20 * KIB) });
    expect(await events("small", "big")).toEqual([undefined, 0]);
    expect((await store.read("big"))?.job?.metadata).toHaveLength(20 * KIB);
  });

  test("texts count as what they take: two bytes a character beyond ASCII", async () => {
    const { store, bytes } = create();
    const appended = async (jobId: string, event: string) => {
      const before = bytes();
      const job = emptyJob(jobId, CREATED);
      await store.append(jobId, null, {
        id: "b",
        revisions: [{ event, patch: {} }],
        job,
        ttlMs: TTL,
      });
      return bytes() - before;
    };
    const ascii = await appended("a", "x".repeat(10_000));
    const other = await appended("b", "进".repeat(10_000));
    expect(other - ascii).toBe(10_000);
  });

  test("a head that grows is counted, though it is measured rarely", async () => {
    const { store, bytes } = create({ historyBytes: 1 });
    const stages: JobState["stages"] = [];
    let head: Cursor | null = null;
    for (let n = 0; n < 200; n++) {
      const event = JSON.stringify({ stage: `stage-${n}`, metadata: "x".repeat(500) });
      const stage = {
        ...JSON.parse(event),
        attempts: [],
        dependsOn: [],
      } as (typeof stages)[number];
      stages.push(stage);
      const job = { ...emptyJob("j", CREATED), stages: [...stages] };
      const patch = { stages: [stage], stageOrder: stages.map((each) => each.stage) };
      const batch = { id: `b${n}`, revisions: [{ event, patch }], job, ttlMs: TTL };
      head = (await store.append("j", head, batch)) || null;
      const counted = bytes();
      const real = JSON.stringify(job).length;
      expect(counted).toBeGreaterThan(real);
      expect(counted).toBeLessThan(2 * real + 8 * KIB);
    }
  });

  test("nothing is counted of jobs that are gone: in time, by number, at the end", async () => {
    const { store, clock, say, end, bytes } = create({ jobs: 50 });
    const random = seededRandom(11);
    for (let n = 0; n < 1_000; n++)
      await (random.below(3) === 0 ? end : say)(`job-${random.below(100)}`, random.below(3_000));
    expect(bytes()).toBeGreaterThan(0);
    clock.advance(3 * TTL);
    expect((await store.list?.({ limit: 10 }))?.jobs).toEqual([]);
    expect(bytes()).toBe(0);
    await say("j");
    await store.close();
    expect(bytes()).toBe(0);
  });

  test("a job that cannot be measured changes nothing", async () => {
    const { store, bytes, say, events } = create();
    await say("j");
    const before = bytes();
    const endless: Record<string, unknown> = {};
    endless.self = endless;
    const metadata = endless as JobState["metadata"];
    await expect(say("j", 10, { metadata, done: true })).rejects.toThrow(TypeError);
    await expect(say("new", 10, { metadata })).rejects.toThrow(TypeError);
    expect(bytes()).toBe(before);
    expect(await events("j", "new")).toEqual([1, undefined]);
    expect((await store.list?.({ limit: 10 }))?.jobs).toHaveLength(1);
    await say("j");
    expect(await events("j")).toEqual([2]);
  });

  test("a log that begins anew is counted once", async () => {
    const { store, bytes, say } = create();
    await say("j", 10_000);
    const before = bytes();
    const known = await store.read("j");
    const job = emptyJob("j", "2025-01-01T00:00:00.000Z");
    const carries = { epoch: "aaaaaaaaaaaa", revision: 3 };
    await store.append("j", known?.cursor ?? null, {
      id: "c",
      revisions: [],
      job,
      ttlMs: TTL,
      carries,
    });
    expect(bytes()).toBeLessThan(before);
    expect((await store.list?.({ limit: 10 }))?.jobs).toMatchObject([{ createdAt: job.createdAt }]);
  });
});

test("[S8] [R15] limits.totalBytes is the monitor's name of it, and stats tell what is held", async () => {
  const totalBytes = 300 * KIB;
  const monitor = createWorkflowMonitor({ authorize: allowAll, limits: { totalBytes } });
  onTestFinished(() => monitor.close());
  expect(monitor.stats().storedBytes).toBe(0);
  for (let n = 0; n < 100; n++) {
    await monitor.publish({ type: "job", jobId: `job-${n}`, metadata: "x".repeat(10_000) });
    await monitor.publish({ type: "job", jobId: `job-${n}`, status: "completed" });
    expect(monitor.stats().storedBytes).toBeLessThanOrEqual(totalBytes);
  }
  expect(monitor.stats().storedBytes).toBeGreaterThan(totalBytes / 2);
  expect(await monitor.get("job-99")).toMatchObject({ status: "completed" });
});

/** Counts how often a job is looked at: its status is read once each time. */
function counting(job: JobState, looked: { count: number }): JobState {
  return Object.defineProperty(job, "status", {
    enumerable: true,
    get() {
      looked.count += 1;
      return "running";
    },
  });
}

async function filled(store: JobStore, count: number) {
  const looked = { count: 0 };
  for (let n = 0; n < count; n++) {
    const jobId = `job-${n}`;
    const job = counting(
      { ...emptyJob(jobId, new Date(n).toISOString()), labels: { n: `${n % 7}` } },
      looked,
    );
    const revisions = [{ event: "{}", patch: {} }];
    await store.append(jobId, null, { id: jobId, revisions, job, ttlMs: TTL });
  }
  looked.count = 0;
  return looked;
}

describe("[S18] a list of the memory store", () => {
  test("looks at no more jobs than it shows", async () => {
    const { store } = create();
    const looked = await filled(store, 5_000);
    const page = await store.list?.({ limit: 50 });
    expect(page?.jobs).toHaveLength(50);
    expect(looked.count).toBe(50); // each is copied once
    await store.list?.({
      limit: 50,
      after: { createdAt: new Date(2_500).toISOString(), jobId: "" },
    });
    expect(looked.count).toBe(100);
  });

  test("looks at 1,000 jobs at a time, where few fit", async () => {
    const { store } = create();
    const looked = await filled(store, 2_500);
    const calls: number[] = [];
    let after = {};
    for (let next: object | null | undefined; next !== null; after = { after: next }) {
      looked.count = 0;
      const page = await store.list?.({ status: "failed", limit: 50, ...after });
      expect(page?.jobs).toEqual([]);
      calls.push(looked.count);
      next = page?.next ?? null;
    }
    expect(calls).toEqual([1_000, 1_000, 500]);
  });

  test("takes a slice of each turn of the event loop, however many are asked for at once", async () => {
    const { store } = create();
    const looked = await filled(store, 10_000);
    const monitor = createWorkflowMonitor({ authorize: allowAll, store });
    onTestFinished(() => monitor.close());
    let answered = 0;
    const queries = [{ status: "failed" }, { labels: { n: "none" } }, { limit: 200 }] as const;
    const lists = Array.from({ length: 51 }, (_, n) =>
      monitor.list(queries[n % 3]).then(() => {
        answered += 1;
      }),
    );
    let most = 0;
    while (answered < 51) {
      looked.count = 0;
      await turns(1);
      most = Math.max(most, looked.count);
    }
    await Promise.all(lists);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(2 * 1_000); // a turn has room for two slices
  });
});
