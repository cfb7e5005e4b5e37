import assert from "node:assert/strict";
import { type Batch, type Cursor, diff, ORIGIN } from "../revision.js";
import { emptyJob, type JobState } from "../snapshot.js";
import type { Announced, JobStore, ListPlace, ListSlice } from "../store.js";
import { type Test, until } from "./contract.js";

export interface StoreContractOptions {
  test: Test;
  /** An empty store; each test takes one and closes it. */
  create(): JobStore | Promise<JobStore>;
  /** Another node of the store that `create` made last. Default: the store lives in one process. */
  another?(): JobStore | Promise<JobStore>;
  /** Lets time pass for the store. Default: it really passes. */
  elapse?(ms: number): void | Promise<void>;
  supports?: {
    /** Default: whether the store has `list`. */
    list?: boolean;
    /** Default: whether the store has `health`. */
    health?: boolean;
  };
}

const TTL_MS = 60_000;
const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();

/** What every `JobStore` must do. */
export function storeContract(options: StoreContractOptions): void {
  const { test, create, another, elapse, supports = {} } = options;
  const pass = elapse ?? ((ms: number) => new Promise((resolve) => setTimeout(resolve, ms)));
  const ttl = (ms: number) => (elapse ? ms : Math.min(ms, 200));

  const check = (name: string, run: (store: JobStore) => Promise<void>) =>
    test(name, async () => {
      const store = await create();
      try {
        await run(store);
      } finally {
        await store.close();
      }
    });

  check("an unknown job is undefined", async (store) => {
    assert.equal(await store.read("nobody"), undefined);
    assert.equal(await store.read("nobody", ORIGIN), undefined);
  });

  check("the first append opens an epoch at the number of its revisions", async (store) => {
    const cursor = await appended(store, "a", null, batch("a", 3));
    assert.match(cursor.epoch, /^[a-z0-9]{12}$/);
    assert.equal(cursor.revision, 3);
    assert.deepEqual((await store.read("a"))?.cursor, cursor);
  });

  check("two jobs have two epochs", async (store) => {
    const one = await appended(store, "a", null, batch("a", 1));
    const other = await appended(store, "b", null, batch("b", 1));
    assert.notEqual(one.epoch, other.epoch);
  });

  check("what is read is what was appended, to the byte", async (store) => {
    const first = batch("ä/ö 1", 2, {
      metadata: { text: 'ü " \\ \u2028 😀', n: 1.5, none: null, deep: [[{}]] },
    });
    const cursor = await appended(store, "ä/ö 1", null, first);
    const record = await store.read("ä/ö 1", ORIGIN);
    assert.equal(JSON.stringify(record?.job), JSON.stringify(first.job));
    assert.deepEqual(record?.events, texts(first));
    assert.deepEqual(record?.cursor, cursor);
    assert.ok(!record?.expired);
  });

  check("a null base loses against a log that is there", async (store) => {
    const cursor = await appended(store, "a", null, batch("a", 1));
    assert.equal(await store.append("a", null, batch("a", 1)), false);
    assert.deepEqual((await store.read("a"))?.cursor, cursor);
  });

  check("an append on a base that is not the head changes nothing", async (store) => {
    const first = await appended(store, "a", null, batch("a", 1));
    const second = await appended(store, "a", first, batch("a", 2));
    const before = await store.read("a", ORIGIN);
    assert.equal(await store.append("a", first, batch("a", 1)), false);
    assert.equal(await store.append("a", { ...second, revision: 9 }, batch("a", 1)), false);
    assert.equal(
      await store.append("a", { ...second, epoch: "zzzzzzzzzzzz" }, batch("a", 1)),
      false,
    );
    assert.deepEqual(await store.read("a", ORIGIN), before);
  });

  check("revisions of an epoch are dense", async (store) => {
    let cursor = null as Cursor | null;
    for (let count = 1; count <= 5; count++) {
      const next: Cursor = await appended(store, "a", cursor, batch("a", count));
      assert.equal(next.revision, (cursor?.revision ?? 0) + count);
      if (cursor) assert.equal(next.epoch, cursor.epoch);
      cursor = next;
    }
  });

  check("of many appends on one base exactly one wins", async (store) => {
    const base = await appended(store, "a", null, batch("a", 1));
    const tries = Array.from({ length: 20 }, () => store.append("a", base, batch("a", 1)));
    const won = (await Promise.all(tries)).filter((result) => result !== false);
    assert.equal(won.length, 1);
    const record = await store.read("a", base);
    assert.equal(record?.cursor.revision, 2);
    assert.equal(record?.events?.length, 1);
  });

  check("at the head a read leaves the job out and has no events", async (store) => {
    const cursor = await appended(store, "a", null, batch("a", 3));
    const record = await store.read("a", cursor);
    assert.ok(record);
    assert.equal(record.job, undefined);
    assert.deepEqual(record.events, []);
  });

  check("a read after a cursor has exactly the events since, in order", async (store) => {
    const one = batch("a", 3);
    const two = batch("a", 2);
    const head = await appended(store, "a", await appended(store, "a", null, one), two);
    const all = [...texts(one), ...texts(two)];
    for (let revision = 0; revision < 5; revision++) {
      const record = await store.read("a", { epoch: head.epoch, revision });
      assert.deepEqual(record?.events, all.slice(revision), `after revision ${revision}`);
      assert.equal(record?.job?.jobId, "a");
    }
  });

  check("a cursor of another epoch counts as the origin", async (store) => {
    const only = batch("a", 2);
    await appended(store, "a", null, only);
    const record = await store.read("a", { epoch: "zzzzzzzzzzzz", revision: 2 });
    assert.deepEqual(record?.events, texts(only));
    assert.ok(record?.job);
  });

  check("a read without a cursor has no events", async (store) => {
    await appended(store, "a", null, batch("a", 2));
    assert.equal((await store.read("a"))?.events, undefined);
  });

  check("the last 64 batches are found by their ids, a lost one is not", async (store) => {
    const batches = Array.from({ length: 70 }, (_, index) => batch("a", (index % 3) + 1));
    const cursors: Cursor[] = [];
    for (const next of batches)
      cursors.push(await appended(store, "a", cursors.at(-1) ?? null, next));
    for (const at of [6, 7, 50, 69])
      assert.deepEqual(await store.find("a", batches[at]?.id ?? ""), cursors[at]);
    const lost = batch("a", 1);
    assert.equal(await store.append("a", null, lost), false);
    assert.equal(await store.find("a", lost.id), undefined);
    assert.equal(await store.find("b", batches[69]?.id ?? ""), undefined);
  });

  check("a base without a log opens a new epoch on top of the batch's job", async (store) => {
    const lost: Cursor = { epoch: "aaaaaaaaaaaa", revision: 7 };
    const carried = batch("a", 2, { message: "carried over" });
    const cursor = await appended(store, "a", lost, carried);
    assert.notEqual(cursor.epoch, lost.epoch);
    assert.equal(cursor.revision, 2);
    const record = await store.read("a", ORIGIN);
    assert.equal(record?.job?.message, "carried over");
    assert.equal(record.events?.length, 2);
    assert.deepEqual(record.carried, [lost]);
  });

  check("a batch that carries a job over begins a new epoch at revision 0", async (store) => {
    const first = await appended(store, "a", null, batch("a", 3));
    const heard: Announced[] = [];
    const unfollow = await store.follow("a", (announced) => heard.push(announced));
    const carries: Cursor = { epoch: "aaaaaaaaaaaa", revision: 9 };
    const rescue = { ...batch("a", 0, { message: "known better" }), carries };
    assert.equal(await store.append("a", { ...first, revision: 2 }, rescue), false);
    const base = await appended(store, "a", first, rescue);
    assert.notEqual(base.epoch, first.epoch);
    assert.equal(base.revision, 0);
    const record = await store.read("a", ORIGIN);
    assert.equal(record?.job?.message, "known better");
    assert.deepEqual(record.events, []);
    assert.deepEqual(record.carried, [first, carries]);
    const next = await appended(store, "a", base, batch("a", 2));
    assert.deepEqual(next, { epoch: base.epoch, revision: 2 });
    assert.deepEqual((await store.read("a"))?.carried, [first, carries]);
    await until("both are heard", () => heard.length >= 2);
    assert.deepEqual(
      heard.map(({ cursor }) => cursor),
      [base, next],
    );
    unfollow();
  });

  check("its connection is told of at once", async (store) => {
    if (!store.connection) return;
    const told: boolean[] = [];
    const stop = store.connection((there) => told.push(there));
    assert.equal(told.length, 1);
    await until("it is there", () => told.at(-1) === true);
    stop();
  });

  check("a follower hears every batch that is appended after follow resolved", async (store) => {
    const first = await appended(store, "a", null, batch("a", 1));
    const heard: Announced[] = [];
    const unfollow = await store.follow("a", (announced) => heard.push(announced));
    await store.read("a", ORIGIN);
    const batches = Array.from({ length: 4 }, (_, index) => batch("a", index + 1));
    const cursors: Cursor[] = [];
    for (const next of batches)
      cursors.push(await appended(store, "a", cursors.at(-1) ?? first, next));
    await until("4 batches are heard", () => heard.length >= 4);
    assert.deepEqual(
      heard.map(({ cursor }) => cursor),
      cursors,
    );
    heard.forEach(({ id, revisions }, index) => {
      assert.equal(id, batches[index]?.id);
      assert.equal(JSON.stringify(revisions), JSON.stringify(batches[index]?.revisions));
    });
    unfollow();
  });

  check("a follower of a job that does not exist hears that it was created", async (store) => {
    const heard: Announced[] = [];
    const unfollow = await store.follow("a", (announced) => heard.push(announced));
    const cursor = await appended(store, "a", null, batch("a", 2));
    await until("it is heard", () => heard.length >= 1);
    assert.deepEqual(heard[0]?.cursor, cursor);
    unfollow();
  });

  check("each follower hears its job and no other", async (store) => {
    const heard: string[] = [];
    const listen = (name: string) => () => heard.push(name);
    const unfollow = await Promise.all([
      store.follow("a", listen("a1")),
      store.follow("a", listen("a2")),
      store.follow("b", listen("b")),
    ]);
    await appended(store, "b", null, batch("b", 1));
    await appended(store, "a", null, batch("a", 1));
    await until("3 are heard", () => heard.length >= 3);
    assert.deepEqual(heard.sort(), ["a1", "a2", "b"]);
    for (const stop of unfollow) stop();
  });

  check("who stopped following hears nothing; the others still do", async (store) => {
    const heard: string[] = [];
    const stop = await store.follow("a", () => heard.push("gone"));
    await store.follow("a", () => heard.push("here"));
    stop();
    stop();
    await appended(store, "a", null, batch("a", 1));
    await until("the other hears", () => heard.includes("here"));
    assert.deepEqual(heard, ["here"]);
  });

  check("a lost append is not announced", async (store) => {
    const first = await appended(store, "a", null, batch("a", 1));
    const heard: string[] = [];
    await store.follow("a", ({ id }) => heard.push(id));
    await store.append("a", null, batch("a", 1));
    const last = batch("a", 1);
    await appended(store, "a", first, last);
    await until("the winner is heard", () => heard.length > 0);
    assert.deepEqual(heard, [last.id]);
  });

  check("a job's time to read ends, and begins anew with each append", async (store) => {
    const ttlMs = ttl(TTL_MS);
    const cursor = await appended(store, "a", null, { ...batch("a", 1), ttlMs });
    await pass(ttlMs * 0.7);
    await appended(store, "a", cursor, { ...batch("a", 1), ttlMs });
    await pass(ttlMs * 0.7);
    assert.ok(isReadable(await store.read("a")), "readable again for ttlMs");
    await pass(ttlMs * 0.5);
    assert.ok(!isReadable(await store.read("a")), "not readable after ttlMs");
  });

  check("a done job is remembered for as long again, marked as expired", async (store) => {
    const ttlMs = ttl(TTL_MS);
    const done = { status: "completed", done: true, run: 3 } as const;
    const cursor = await appended(store, "a", null, { ...batch("a", 1, done), ttlMs });
    await pass(ttlMs * 1.4);
    const record = await store.read("a");
    assert.equal(record?.expired, true);
    assert.equal(record?.job?.run, 3);
    assert.equal(await store.append("a", null, batch("a", 1)), false, "its log is still there");
    assert.ok(await store.append("a", cursor, batch("a", 1)), "a higher run can bring it back");
    assert.ok(isReadable(await store.read("a")));
  });

  check("what is forgotten is gone", async (store) => {
    const ttlMs = ttl(TTL_MS);
    const first = await appended(store, "a", null, {
      ...batch("a", 1, { status: "failed", done: true }),
      ttlMs,
    });
    await pass(ttlMs * 2.5);
    assert.equal(await store.read("a"), undefined);
    const second = await appended(store, "a", null, batch("a", 1));
    assert.notEqual(second.epoch, first.epoch, "another life is another epoch");
  });

  check("close is idempotent, and the end", async (store) => {
    await store.close();
    await store.close();
    await assert.rejects(async () => store.read("a"));
    await assert.rejects(store.append("a", null, batch("a", 1)));
  });

  if (supports.health !== false) {
    check("health resolves while the store answers", async (store) => {
      assert.ok(store.health || !supports.health, "health is missing");
      await store.health?.();
      await store.close();
      if (store.health) await assert.rejects(store.health());
    });
  }

  if (supports.list === false) return;

  check("list shows summaries, newest first, in pages without gap or repeat", async (store) => {
    assert.ok(store.list || !supports.list, "list is missing");
    if (!store.list) return;
    for (let n = 0; n < 25; n++) {
      // Some are created in the same second: the job id decides.
      const createdAt = at(Math.floor(n / 3));
      await appended(store, `job-${n}`, null, batch(`job-${n}`, 1, { createdAt }));
    }
    const seen: string[] = [];
    let after: ListPlace | null | undefined;
    do {
      const page: ListSlice = await store.list({ limit: 10, ...(after && { after }) });
      assert.ok(page.jobs.length <= 10);
      for (const job of page.jobs) {
        assert.ok(!("stages" in job));
        assert.equal(job.revision, 1);
        assert.match(job.epoch, /^[a-z0-9]{12}$/);
        seen.push(`${job.createdAt} ${job.jobId}`);
      }
      after = page.next;
    } while (after);
    assert.equal(seen.length, 25);
    assert.deepEqual(seen, [...seen].sort().reverse());
  });

  check(
    "list goes on behind the place of any row, whether it is still there or not",
    async (store) => {
      if (!store.list) return;
      const places = Array.from({ length: 12 }, (_, n) => ({
        createdAt: at(Math.floor(n / 4)),
        jobId: `job-${String(n).padStart(2, "0")}`,
      }));
      for (const { createdAt, jobId } of places)
        if (jobId !== "job-05") await appended(store, jobId, null, batch(jobId, 1, { createdAt }));
      const ids = places.map(({ jobId }) => jobId).filter((jobId) => jobId !== "job-05");
      for (const { createdAt, jobId } of places) {
        const { jobs } = await store.list({ limit: 20, after: { createdAt, jobId } });
        const older = ids.filter((id) => id < jobId).reverse();
        assert.deepEqual(
          jobs.map((job) => job.jobId),
          older,
          `behind ${jobId}`,
        );
      }
    },
  );

  check("its secret is one for all nodes, and no other store's", async (store) => {
    if (!store.secret) return;
    const secret = Buffer.from(await store.secret());
    assert.ok(secret.length >= 32);
    assert.deepEqual(Buffer.from(await store.secret()), secret);
    const node = await another?.();
    if (node) {
      assert.ok(node.secret);
      assert.deepEqual(Buffer.from(await node.secret()), secret);
      await node.close();
    }
    const other = await create();
    assert.notDeepEqual(Buffer.from((await other.secret?.()) ?? []), secret);
    await other.close();
  });

  check("list filters by status and by labels, and leaves out what has expired", async (store) => {
    if (!store.list) return;
    const ttlMs = ttl(TTL_MS);
    await appended(
      store,
      "a",
      null,
      batch("a", 1, { status: "running", labels: { team: "x", env: "1" } }),
    );
    await appended(store, "b", null, batch("b", 1, { status: "running", labels: { team: "y" } }));
    await appended(store, "c", null, batch("c", 1, { labels: { team: "x" } }));
    const gone = batch("d", 1, { status: "completed", done: true, labels: { team: "x" } });
    await appended(store, "d", null, { ...gone, ttlMs });
    await pass(ttlMs * 1.2);
    const ids = async (query: object) =>
      (await store.list?.({ limit: 10, ...query }))?.jobs.map((j) => j.jobId).sort();
    assert.deepEqual(await ids({ status: "running" }), ["a", "b"]);
    assert.deepEqual(await ids({ labels: { team: "x" } }), ["a", "c"]);
    assert.deepEqual(await ids({ labels: { team: "x", env: "1" } }), ["a"]);
    assert.deepEqual(await ids({ status: "pending", labels: { team: "y" } }), []);
  });
}

const isReadable = (record: { expired?: boolean } | undefined) =>
  record !== undefined && !record.expired;

const texts = ({ revisions }: Batch): string[] => revisions.map(({ event }) => event);

async function appended(
  store: JobStore,
  jobId: string,
  base: Cursor | null,
  next: Batch,
): Promise<Cursor> {
  const cursor = await store.append(jobId, base, next);
  assert.ok(cursor, "the append lost although its base was the head");
  return cursor;
}

let made = 0;

function batch(jobId: string, revisions: number, fields: Partial<JobState> = {}): Batch {
  const job: JobState = { ...emptyJob(jobId, at(0)), ...fields };
  const patch = diff(emptyJob(jobId, at(0)), job);
  return {
    id: `batch-${++made}`,
    revisions: Array.from({ length: revisions }, () => ({
      event: JSON.stringify({ type: "job", timestamp: at(0), message: `event ${++made} ü😀` }),
      patch,
    })),
    job,
    ttlMs: 24 * 3_600_000,
  };
}
