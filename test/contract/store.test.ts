import { randomBytes } from "node:crypto";
import { type JobStore, memoryStore } from "@org/workflow-monitor";
import { storeContract } from "@org/workflow-monitor/testing";
import { describe, test } from "vitest";
import { ManualClock } from "../support/clock.js";
import { expectFault, results } from "./prove.js";

describe.each([
  ["memoryStore", (store: JobStore) => store],
  [
    "a store whose read takes a turn",
    (store: JobStore): JobStore => ({ ...store, read: async (...args) => store.read(...args) }),
  ],
])("%s", (_name, wrap) => {
  let clock = new ManualClock();
  storeContract({
    test,
    create() {
      clock = new ManualClock();
      return wrap(memoryStore({ clock }));
    },
    elapse: (ms) => clock.advance(ms),
    supports: { list: true, health: true },
  });
});

/** memoryStore with a fault, and the test that must find it. */
const faults: Record<string, { found: string; of(store: JobStore): Partial<JobStore> }> = {
  "an append that overwrites": {
    found: "an append on a base that is not the head changes nothing",
    of: (store) => ({
      async append(jobId, _base, batch) {
        const head = await store.read(jobId);
        return store.append(jobId, head?.cursor ?? null, batch);
      },
    }),
  },
  "a compare that is not atomic": {
    found: "of many appends on one base exactly one wins",
    of: (store) => ({
      async append(jobId, base, batch) {
        const head = await store.read(jobId);
        if (head && head.cursor.revision !== base?.revision) return false;
        await new Promise(setImmediate);
        const now = await store.read(jobId);
        return store.append(jobId, now?.cursor ?? null, batch);
      },
    }),
  },
  "a follow that is live too late": {
    found: "a follower hears every batch that is appended after follow resolved",
    of: (store) => ({
      async follow(jobId, listener) {
        let stop = () => {};
        void new Promise((resolve) => setTimeout(resolve, 5)).then(async () => {
          stop = await store.follow(jobId, listener);
        });
        return () => stop();
      },
    }),
  },
  "a follow that hears lost appends": {
    found: "a lost append is not announced",
    of: (store) => {
      const listeners: Parameters<JobStore["follow"]>[1][] = [];
      return {
        async follow(_jobId, listener) {
          listeners.push(listener);
          return () => {};
        },
        async append(jobId, base, batch) {
          const cursor = await store.append(jobId, base, batch);
          const told = cursor || { epoch: "zzzzzzzzzzzz", revision: 1 };
          for (const listener of listeners) {
            listener({ cursor: told, revisions: batch.revisions, id: batch.id });
          }
          return cursor;
        },
      };
    },
  },
  "an unfollow that does nothing": {
    found: "who stopped following hears nothing; the others still do",
    of: (store) => ({
      async follow(jobId, listener) {
        await store.follow(jobId, listener);
        return () => {};
      },
    }),
  },
  "history with one event too many": {
    found: "a read after a cursor has exactly the events since, in order",
    of: (store) => ({
      read: (jobId, after) =>
        store.read(jobId, after && { ...after, revision: Math.max(0, after.revision - 1) }),
    }),
  },
  "a job that forgets its key order": {
    found: "what is read is what was appended, to the byte",
    of: (store) => ({
      async read(jobId, after) {
        const record = await store.read(jobId, after);
        if (!record?.job) return record;
        const entries = Object.entries(record.job).reverse();
        return { ...record, job: Object.fromEntries(entries) as unknown as typeof record.job };
      },
    }),
  },
  "an epoch that is the same for all": {
    found: "two jobs have two epochs",
    of: (store) => ({
      async append(jobId, base, batch) {
        const cursor = await store.append(jobId, base, batch);
        return cursor && { ...cursor, epoch: "000000000000" };
      },
    }),
  },
  "a list that repeats a row on the next page": {
    found: "list shows summaries, newest first, in pages without gap or repeat",
    of: (store) => ({
      async list(query) {
        const page = await store.list?.({ ...query, limit: query.limit });
        const last = page?.jobs.at(-2);
        return {
          jobs: page?.jobs ?? [],
          next: page?.next && last ? last : null,
        };
      },
    }),
  },
  "a list that goes on at a place instead of behind it": {
    found: "list goes on behind the place of any row, whether it is still there or not",
    of: (store) => ({
      async list({ after, ...query }) {
        const { jobs = [] } = (await store.list?.({ ...query, limit: 100 })) ?? {};
        const rest = jobs.filter(({ jobId }) => !after || jobId <= after.jobId);
        return { jobs: rest, next: null };
      },
    }),
  },
  "a secret that is another at each call": {
    found: "its secret is one for all nodes, and no other store's",
    of: () => ({ secret: async () => randomBytes(32) }),
  },
  "a secret that is the same for all stores": {
    found: "its secret is one for all nodes, and no other store's",
    of: () => ({ secret: async () => Buffer.alloc(32) }),
  },
  "a job that never expires": {
    found: "a job's time to read ends, and begins anew with each append",
    of: (store) => ({
      append: (jobId, base, batch) => store.append(jobId, base, { ...batch, ttlMs: 1e12 }),
    }),
  },
};

describe("the kit finds", () => {
  test.each(Object.entries(faults))("%s", { timeout: 15_000 }, async (_name, { found, of }) => {
    let clock = new ManualClock();
    const all = await results((collect) =>
      storeContract({
        test: (name, run) => name === found && collect(name, run),
        create() {
          clock = new ManualClock();
          const store = memoryStore({ clock });
          return { ...store, ...of(store) };
        },
        elapse: (ms) => clock.advance(ms),
      }),
    );
    expectFault(all, found);
  });
});
