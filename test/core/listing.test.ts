import {
  allowAll,
  createWorkflowMonitor,
  type JobStore,
  type JobSummary,
  memoryStore,
} from "@org/workflow-monitor";
import { describe, expect, onTestFinished, test } from "vitest";
import { Listing, type MaySee } from "../../packages/core/src/listing.js";
import { StoreFaults } from "../../packages/core/src/store-faults.js";
import { Turns } from "../../packages/core/src/turns.js";
import { ManualClock, turns } from "../support/clock.js";
import { recorder } from "../support/server.js";
import { countingStore } from "../support/stores.js";

function listingOf(store: JobStore, clock: ManualClock): Listing {
  const faults = new StoreFaults(recorder().logger, clock, () => {});
  return new Listing({ store, faults, clock, turns: new Turns(clock) });
}

async function filled(count: number) {
  const clock = new ManualClock();
  const { store, counts } = countingStore({ clock });
  const monitor = createWorkflowMonitor({ authorize: allowAll, store, clock });
  onTestFinished(() => store.close());
  const timestamp = Date.UTC(2025, 0, 1);
  for (let n = 0; n < count; n += 500)
    await Promise.all(
      Array.from({ length: Math.min(500, count - n) }, (_, at) =>
        monitor.publish({ type: "job", jobId: `job-${n + at}`, timestamp: timestamp + n + at }),
      ),
    );
  const listing = listingOf(store, clock);
  const page = (maySee: MaySee, limit = 20) => listing.page({ limit }, maySee, () => false);
  return { clock, counts, monitor, page };
}

const isNumber =
  (...numbers: number[]) =>
  ({ jobId }: JobSummary) =>
    numbers.includes(Number(jobId.slice(4)));

describe("[A1] [D14] a page", () => {
  test("has a next one only if there is one more row that may be seen", async () => {
    const { page } = await filled(700);
    const some = await page(isNumber(650, 400, 10), 3);
    expect(some.jobs.map(({ jobId }) => jobId)).toEqual(["job-650", "job-400", "job-10"]);
    expect(some.next).toBeNull();
    expect((await page(isNumber(650, 400, 10, 0), 3)).next).not.toBeNull();
    expect((await page(isNumber(650, 400, 10, 0), 4)).next).toBeNull();
  });

  test("of rows that may all be seen costs one call of the store, and one question a row and one more", async () => {
    const { page, counts } = await filled(120);
    let asked = 0;
    const all = await page(() => {
      asked += 1;
      return true;
    }, 50);
    expect(all.jobs).toHaveLength(50);
    expect(counts.lists).toBe(1);
    expect(asked).toBe(51);
  });

  test("with a limit that is none is a bad_request", async () => {
    const { monitor } = await filled(1);
    for (const limit of [0, -1, Number.NaN])
      await expect(monitor.list({ limit })).rejects.toMatchObject({ code: "bad_request" });
    expect((await monitor.list({ limit: Number.POSITIVE_INFINITY })).jobs).toHaveLength(1);
  });

  test("is not shown when a question about a row fails", async () => {
    const { page } = await filled(300);
    const error = new Error("no");
    const failing: MaySee[] = [
      ({ jobId }) => {
        if (jobId === "job-120") throw error;
        return Promise.resolve(false);
      },
      async ({ jobId }) => {
        if (jobId === "job-120") throw error;
        return false;
      },
    ];
    for (const maySee of failing) await expect(page(maySee)).rejects.toBe(error);
  });
});

describe("[S18] questions about rows", () => {
  test("that are answered at once take some milliseconds of a turn", async () => {
    const { clock, page } = await filled(600);
    let inTurn = 0;
    let most = 0;
    let isOver = false;
    const search = page(() => {
      clock.advance(1);
      inTurn += 1;
      return false;
    }).then(() => {
      isOver = true;
    });
    while (!isOver) {
      inTurn = 0;
      await turns(1);
      most = Math.max(most, inTurn);
    }
    await search;
    expect(most).toBe(2);
  });

  test("that are answered later wait 64 at a time", async () => {
    const { page } = await filled(600);
    let waiting = 0;
    let most = 0;
    await page(async () => {
      waiting += 1;
      most = Math.max(most, waiting);
      await turns(1);
      waiting -= 1;
      return false;
    });
    expect(most).toBe(64);
  });
});

test("[D14] a request looks at about 20,000 jobs, also when the store's filter leaves none of them", async () => {
  const clock = new ManualClock();
  let calls = 0;
  const listing = listingOf(
    {
      ...memoryStore({ clock }),
      async list() {
        calls += 1; // each of them has looked at 1,000
        return {
          jobs: [],
          next: { createdAt: `2025-01-01T00:00:00.${1_000 - calls}Z`, jobId: "" },
        };
      },
    },
    clock,
  );
  const { jobs, next } = await listing.page(
    { limit: 50, status: "failed" },
    () => true,
    () => false,
  );
  expect(jobs).toEqual([]);
  expect(next).not.toBeNull();
  expect(calls).toBe(20);
});

test("[S18] lists that search far ask the store one at a time", async () => {
  const clock = new ManualClock();
  const { store } = countingStore();
  let reading = 0;
  let most = 0;
  const listing = listingOf(
    {
      ...store,
      async list({ limit, after }) {
        if (!after) return { jobs: [], next: { createdAt: "9", jobId: "" } };
        reading += 1;
        most = Math.max(most, reading);
        await turns(1);
        reading -= 1;
        if (after.createdAt === "5") throw new Error("away");
        return {
          jobs: [],
          next: { createdAt: String(Number(after.createdAt) - 1), jobId: `${limit}` },
        };
      },
    },
    clock,
  );
  const all = Array.from({ length: 5 }, () =>
    listing.page(
      { limit: 1 },
      () => true,
      () => false,
    ),
  );
  for (const outcome of await Promise.allSettled(all)) expect(outcome.status).toBe("rejected");
  expect(most).toBe(1);
});

test("[S18] a store that does not answer one search holds up the others for 5 s", async () => {
  const clock = new ManualClock();
  let reads = 0;
  const next = { createdAt: "5", jobId: "" };
  const listing = listingOf(
    {
      ...memoryStore(),
      async list({ after }) {
        if (!after) return { jobs: [], next };
        reads += 1;
        return reads === 1 ? new Promise(() => {}) : { jobs: [], next: null };
      },
    },
    clock,
  );
  const page = () =>
    listing.page(
      { limit: 1 },
      () => true,
      () => false,
    );
  void page();
  await turns();
  const other = page();
  await turns();
  expect(reads).toBe(1);
  clock.advance(5_000);
  await expect(other).resolves.toEqual({ jobs: [], next: null });
});

test("[S18] the store keeps its order when a job's time of creation changes with another life of its log", async () => {
  const store = memoryStore();
  onTestFinished(() => store.close());
  const monitor = createWorkflowMonitor({ authorize: allowAll, store });
  for (const n of [1, 2, 3])
    await monitor.publish({ type: "job", jobId: `job-${n}`, timestamp: Date.UTC(2025, 0, n) });
  const { cursor, job } = (await store.read("job-3")) ?? {};
  if (!cursor || !job) throw new Error("it is there");
  await store.append("job-3", cursor, {
    id: "b",
    revisions: [],
    job: { ...job, createdAt: new Date(Date.UTC(2024, 0, 1)).toISOString() },
    ttlMs: 1e6,
    carries: cursor,
  });
  const { jobs } = await monitor.list();
  expect(jobs.map(({ jobId }) => jobId)).toEqual(["job-2", "job-1", "job-3"]);
});
