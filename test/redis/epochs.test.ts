import { type Cursor, printCursor } from "@org/workflow-monitor";
import { describe, expect, onTestFinished, test } from "vitest";
import { type RedisOptions, type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { redisClient } from "../support/redis-client.js";
import {
  append,
  away,
  batchOf,
  eventually,
  messages,
  publisherOn,
  type Store,
  storeOn,
  there,
  whole,
} from "./given.js";

async function redis(options?: RedisOptions): Promise<RedisServer> {
  const server = await startRedis(options);
  onTestFinished(() => server.close());
  return server;
}

/** Restarts it under its stores, which have all seen both. */
async function restart(
  server: RedisServer,
  stores: Store[],
  { data = "kept" as "kept" | "lost" } = {},
): Promise<void> {
  await server.stop();
  await Promise.all(stores.map(away));
  await server.start({ data });
  await Promise.all(stores.map(there));
}

describe.skipIf(withoutRedis)("a restart with its data", () => {
  test("shows the same state to every store, in one new epoch at revision 0", async () => {
    const server = await redis({ persist: true });
    const stores = [storeOn(server.port), storeOn(server.port)] as const;
    const [one, other] = stores;
    const cursor = await append(
      one,
      null,
      batchOf("j", 3, { message: "so far", status: "running" }),
    );
    const before = await whole(one);
    await restart(server, [...stores]);
    const after = await Promise.all([...stores, storeOn(server.port)].map((store) => whole(store)));
    for (const record of after) {
      expect(record.cursor.epoch).not.toBe(cursor.epoch);
      expect(record.cursor).toEqual({ epoch: after[0]?.cursor.epoch, revision: 0 });
      expect(JSON.stringify(record.job)).toBe(JSON.stringify(before.job));
      expect(record.events).toEqual([]);
      expect(record.carried).toEqual([cursor]);
    }
    // A cursor of the old epoch is one of another: it is told the state, and no events.
    const foreign = await other.read("j", { ...cursor, revision: 2 });
    expect(foreign).toMatchObject({ cursor: after[0]?.cursor, events: [], job: before.job });
    // Reading writes nothing: it stays so.
    expect((await whole(other)).cursor).toEqual(after[0]?.cursor);
  });

  test("continues nothing of the old epoch, and the new one from where it was shown", async () => {
    const server = await redis({ persist: true });
    const store = storeOn(server.port);
    const old = await append(store, null, batchOf("j", 3));
    await restart(server, [store]);
    const { cursor } = await whole(store);
    expect(await store.append("j", null, batchOf("j", 1))).toBe(false);
    expect(await store.append("j", { ...cursor, revision: 1 }, batchOf("j", 1))).toBe(false);
    expect(await store.append("j", { ...old, revision: 2 }, batchOf("j", 1))).toBe(false);
    expect((await whole(store)).cursor).toEqual(cursor);
    const next = batchOf("j", 2, { message: "on" });
    expect(await append(store, cursor, next)).toEqual({ epoch: cursor.epoch, revision: 2 });
    const record = await whole(store);
    expect(record.events).toEqual(next.revisions.map(({ event }) => event));
    expect(record.carried).toEqual([old]);
    expect(record.job.message).toBe("on");
    expect(await store.append("j", old, batchOf("j", 1))).toBe(false);
  });

  test("takes what was to follow the old epoch into the one that it shows", async () => {
    const server = await redis({ persist: true });
    const store = storeOn(server.port);
    const old = await append(store, null, batchOf("j", 3));
    await restart(server, [store]);
    const shown = await whole(store);
    const batch = batchOf("j", 2, { message: "on" });
    const cursor = await append(store, old, batch);
    expect(cursor).toEqual({ ...shown.cursor, revision: 2 });
    const record = await whole(store);
    expect(record.events).toEqual(batch.revisions.map(({ event }) => event));
    expect(record.carried).toContainEqual(old);
    expect(await store.append("j", shown.cursor, batchOf("j", 1))).toBe(false);
  });

  test("keeps every stage, also those that the first append after it does not touch", async () => {
    const server = await redis({ persist: true });
    const { store, monitor, say } = publisherOn(server.port);
    await monitor.publish({ type: "plan", jobId: "j", stages: [{ stage: "a" }, { stage: "b" }] });
    await monitor.publish({ type: "stage", jobId: "j", stage: "a", status: "completed" });
    const before = await whole(store);
    await restart(server, [store]);
    await say({ message: "on" });
    const after = await whole(store);
    expect(JSON.stringify(after.job.stages)).toBe(JSON.stringify(before.job.stages));
    await restart(server, [store]);
    expect(JSON.stringify((await whole(store)).job)).toBe(JSON.stringify(after.job));
  });

  test("[R18] lets a publisher that knew everything go on in the epoch that all see", async () => {
    const server = await redis({ persist: true });
    const { store, say } = publisherOn(server.port);
    const reader = storeOn(server.port);
    await say({ status: "running" });
    const last = await say({ message: "so far" });
    await restart(server, [store, reader]);
    const shown = await whole(reader);
    const next = await say({ message: "on" });
    expect(next).toEqual({ epoch: shown.cursor.epoch, revision: 1 });
    const record = await whole(reader);
    expect(messages(record.events)).toEqual(["on"]);
    expect(record.job).toMatchObject({ status: "running", message: "on" });
    expect(record.carried).toEqual([last]);
  });

  test("[R18] happens twice in a row: who was acknowledged before both goes on all the same", async () => {
    const server = await redis({ persist: true });
    const one = publisherOn(server.port);
    const other = publisherOn(server.port);
    const stores = [one.store, other.store];
    const epochs = new Set<string>();
    const first = await one.say({ status: "running", labels: { mine: "1" } });
    epochs.add(first.epoch);
    await restart(server, stores);
    const unread = await whole(other.store);
    epochs.add(unread.cursor.epoch);
    await restart(server, stores); // nobody has written in between
    const shown = await whole(one.store);
    epochs.add(shown.cursor.epoch);
    expect(shown.carried).toContainEqual(first);
    const second = await other.say({ message: "after two" });
    expect(second).toEqual({ epoch: shown.cursor.epoch, revision: 1 });
    await restart(server, stores);
    await other.say({ message: "after three" });
    const third = await whole(other.store);
    epochs.add(third.cursor.epoch);
    expect(third.carried).toEqual(expect.arrayContaining([first, second]));
    // What it knows is contained: no epoch of its own.
    const cursor = await one.say({ reason: "mine" });
    expect(cursor).toEqual({ epoch: third.cursor.epoch, revision: 2 });
    expect((await whole(one.store)).job).toMatchObject({
      status: "running",
      labels: { mine: "1" },
      message: "after three",
      reason: "mine",
    });
    expect(epochs.size).toBe(4);
  });

  test("finds a batch of the old epoch no more where it could be continued", async () => {
    const server = await redis({ persist: true });
    const store = storeOn(server.port);
    const batch = batchOf("j", 1, { message: "stored" });
    const cursor = await append(store, null, batch);
    await restart(server, [store]);
    // Stored or not: whatever it says, it says nothing of the old epoch.
    const found = await store.find("j", batch.id);
    if (found) expect(found.epoch).not.toBe(cursor.epoch);
    expect((await whole(store)).job.message).toBe("stored");
  });

  test("[R18] leaves a done job done, for its time", async () => {
    const server = await redis({ persist: true });
    const { store, say, monitor } = publisherOn(server.port);
    await say({ status: "completed", message: "well" });
    const before = await whole(store);
    await restart(server, [store]);
    await say({ status: "running" }); // late
    const after = await whole(store);
    expect(JSON.stringify(after.job)).toBe(JSON.stringify(before.job));
    expect((await monitor.get("j"))?.done).toBe(true);
    const client = redisClient(server.port);
    for (const key of await client.texts("KEYS", "wm:{j}:*"))
      expect(await client.number("PTTL", key)).toBeGreaterThan(0);
  });
});

describe.skipIf(withoutRedis)("[R18] a restart without data", () => {
  test("gets back what was acknowledged, without an event", async () => {
    const server = await redis();
    const { store, say } = publisherOn(server.port);
    const reader = storeOn(server.port);
    await say({ status: "running" });
    const last = await say({ message: "so far" });
    const before = await whole(store);
    await restart(server, [store, reader], { data: "lost" });
    await eventually("it is back", async () => (await reader.read("j")) !== undefined);
    const record = await whole(reader);
    expect(record).toMatchObject({ cursor: { revision: 0 }, events: [], carried: [last] });
    expect(record.cursor.epoch).not.toBe(last.epoch);
    expect(JSON.stringify(record.job)).toBe(JSON.stringify(before.job));
    expect(await say({ message: "on" })).toEqual({ epoch: record.cursor.epoch, revision: 1 });
  });

  test("gets back done jobs, which stay done", async () => {
    const server = await redis();
    const { store, say } = publisherOn(server.port, { retainMs: 60_000 });
    await say({ status: "failed", error: { code: "E", message: "no" } });
    const before = await whole(store);
    await restart(server, [store], { data: "lost" });
    await eventually("it is back", async () => (await store.read("j")) !== undefined);
    await say({ status: "running", message: "late" });
    expect(JSON.stringify((await whole(store)).job)).toBe(JSON.stringify(before.job));
    await say({ status: "running", run: 2 });
    expect((await whole(store)).job).toMatchObject({ run: 2, done: false });
  });

  test("comes to one state with several publishers of one job, whoever is first", async () => {
    const server = await redis();
    const publishers = [0, 1, 2].map(() => publisherOn(server.port));
    const stores = publishers.map(({ store }) => store);
    const acknowledged: Cursor[] = [];
    for (const [at, { say }] of publishers.entries())
      acknowledged.push(
        await say(
          [{ status: "running" as const }, { message: "second" }, { labels: { third: "1" } }][
            at
          ] as object,
        ),
      );
    await restart(server, stores, { data: "lost" });
    const [first] = stores as [Store];
    await eventually("all of it is back", async () => {
      const job = (await first.read("j"))?.job;
      return job?.labels.third === "1" && job.message === "second" && job.status === "running";
    });
    // Each goes on, and in the end in one epoch.
    for (const [at, { say }] of publishers.entries()) await say({ reason: `on ${at}` });
    const cursors = await Promise.all(publishers.map(({ say }, at) => say({ metadata: { at } })));
    expect(new Set(cursors.map(({ epoch }) => epoch)).size).toBe(1);
    expect((await whole(first)).job).toMatchObject({
      status: "running",
      message: "second",
      labels: { third: "1" },
      reason: "on 2",
    });
    const old = new Set(acknowledged.map(({ epoch }) => epoch));
    expect(old.has(cursors[0]?.epoch ?? "")).toBe(false);
  });

  test("gets back many jobs of one process", async () => {
    const server = await redis();
    const { store, say } = publisherOn(server.port);
    const ids = Array.from({ length: 200 }, (_, at) => `job-${at}`);
    await Promise.all(ids.map((jobId) => say({ jobId, status: "running", message: jobId })));
    await restart(server, [store], { data: "lost" });
    await eventually("all are back", async () => {
      const records = await Promise.all(ids.map(async (jobId) => store.read(jobId)));
      return records.every((record, at) => record?.job?.message === ids[at]);
    });
    await eventually("they are listed", async () => {
      const { jobs } = await store.list({ limit: 500 });
      return jobs.length === ids.length;
    });
  });
});

describe.skipIf(withoutRedis)("what Redis throws out", () => {
  test.each([
    { what: "the head", key: "wm:{j}:head" },
    { what: "the stream", key: "wm:{j}:log" },
  ])(
    "[R18] evicted $what: the next event begins a new epoch with the whole state",
    async ({ key }) => {
      const server = await redis();
      const { store, monitor, say } = publisherOn(server.port);
      const client = redisClient(server.port);
      await monitor.publish({ type: "plan", jobId: "j", stages: [{ stage: "a" }, { stage: "b" }] });
      const last = await say({ status: "running", message: "so far" });
      const before = await whole(store);
      expect(await client.number("DEL", key)).toBe(1);
      const between = await store.read("j");
      if (between) expect(between.job?.message).toBe("so far");
      const next = await say({ message: "on" });
      expect(next.epoch).not.toBe(last.epoch);
      const after = await whole(store);
      expect(after.cursor).toEqual(next);
      expect(JSON.stringify(after.job.stages)).toBe(JSON.stringify(before.job.stages));
      expect(after.job).toMatchObject({ status: "running", message: "on" });
      expect(messages(after.events)).toEqual(after.events.length > 0 ? ["on"] : []);
      expect(after.events).toHaveLength(next.revision);
      expect(after.carried?.map(printCursor)).toContain(printCursor(last));
      expect(await store.append("j", last, batchOf("j", 1))).toBe(false);
    },
  );

  test("an evicted stream leaves readers without events, but not with a gap", async () => {
    const server = await redis();
    const store = storeOn(server.port);
    const client = redisClient(server.port);
    const first = await append(store, null, batchOf("j", 2, { message: "so far" }));
    const last = await append(store, first, batchOf("j", 2, { message: "so far" }));
    await client.call("DEL", "wm:{j}:log");
    const record = await store.read("j", first);
    if (record?.cursor.epoch === last.epoch) {
      expect(record.events).toEqual([]);
      expect(record.job?.message).toBe("so far");
    }
    // No second life of the old epoch.
    const next = await store.append("j", last, batchOf("j", 1, { message: "on" }));
    if (next) expect(next.epoch).not.toBe(last.epoch);
  });

  test("FLUSHALL: publishers bring the job back with their next event, in one new epoch", async () => {
    const server = await redis();
    const one = publisherOn(server.port);
    const other = publisherOn(server.port);
    const old = await one.say({ status: "running", labels: { by: "one" } });
    await other.say({ message: "by the other" });
    await redisClient(server.port).call("FLUSHALL");
    expect(await one.store.read("j")).toBeUndefined();
    await one.say({ reason: "news" });
    await other.say({ metadata: { n: 1 } });
    const record = await whole(one.store);
    expect(record.cursor.epoch).not.toBe(old.epoch);
    expect(record.job).toMatchObject({
      status: "running",
      labels: { by: "one" },
      message: "by the other",
      reason: "news",
      metadata: { n: 1 },
    });
    expect((await one.say({ reason: "on" })).epoch).toBe(record.cursor.epoch);
  });

  test("a batch that is appended again after the loss begins another epoch than the first time", async () => {
    const server = await redis();
    const store = storeOn(server.port);
    const batch = batchOf("j", 1);
    const first = await append(store, null, batch); // and its publisher does not hear of it
    await append(store, first, batchOf("j", 1)); // by another one, who does
    await redisClient(server.port).call("FLUSHALL");
    expect(await store.find("j", batch.id)).toBeUndefined();
    const again = await append(store, null, batch);
    // Else revision 2 would be another event than the one that viewers have seen.
    expect(again.epoch).not.toBe(first.epoch);
  });

  test("SCRIPT FLUSH goes unnoticed", async () => {
    const server = await redis();
    const { store, say } = publisherOn(server.port);
    const client = redisClient(server.port);
    const first = await say({ status: "running" });
    await client.call("SCRIPT", "FLUSH");
    expect(await say({ message: "on" })).toEqual({ epoch: first.epoch, revision: 2 });
    await client.call("SCRIPT", "FLUSH");
    expect((await whole(store)).events).toHaveLength(2);
    await client.call("SCRIPT", "FLUSH");
    expect((await store.list({ limit: 10 })).jobs).toHaveLength(1);
    await client.call("SCRIPT", "FLUSH");
    await store.health();
  });
});

describe.skipIf(withoutRedis)("a Redis that is full (noeviction)", () => {
  test("lets publishes wait, half-writes nothing, and goes on when there is room", async () => {
    const server = await redis();
    const { store, say } = publisherOn(server.port);
    const client = redisClient(server.port);
    const first = await say({ status: "running", message: "0" });
    const before = await whole(store);
    await client.call("CONFIG", "SET", "maxmemory-policy", "noeviction");
    await client.call("CONFIG", "SET", "maxmemory", "1");
    const dirty = await client.info("persistence", "rdb_changes_since_last_save");
    let stored = 0;
    const waiting = [1, 2, 3].map((n) =>
      say({ message: `${n}` }).then((cursor) => {
        stored += 1;
        return cursor;
      }),
    );
    await eventually("it was refused twice", async () => {
      const [, refused] = (await client.info("errorstats", "errorstat_OOM")).split("=");
      return Number(refused) >= 2;
    });
    expect(stored).toBe(0);
    expect(await whole(store)).toEqual(before);
    expect(await client.info("persistence", "rdb_changes_since_last_save")).toBe(dirty);
    await client.call("CONFIG", "SET", "maxmemory", "0");
    const cursors = await Promise.all(waiting);
    for (const { epoch } of cursors) expect(epoch).toBe(first.epoch);
    const after = await whole(store);
    expect(messages(after.events)).toEqual(["0", "1", "2", "3"]);
    expect(after.cursor).toEqual(cursors.at(-1));
  });
});
