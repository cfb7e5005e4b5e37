import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startFaultProxy } from "../support/fault-proxy.js";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { redisClient } from "../support/redis-client.js";
import { inTime } from "../support/wait.js";
import {
  append,
  batchOf,
  eventually,
  messages,
  publisherOn,
  range,
  storeOn,
  there,
  whole,
} from "./given.js";

let server: RedisServer;
let prefixes = 0;
const ownPrefix = () => `races${++prefixes}:`;

beforeAll(async () => {
  if (!withoutRedis) server = await startRedis();
});
afterAll(() => server?.close());

describe.skipIf(withoutRedis)("publishers that race on one job", () => {
  test("20 of them, of 20 stores: one order, every acknowledged event in it once", {
    timeout: 20_000,
  }, async () => {
    const prefix = ownPrefix();
    const publishers = range(20).map(() => publisherOn(server.port, { store: { prefix } }));
    const acknowledged = new Map<number, string>();
    await Promise.all(
      publishers.map(async ({ say }, who) => {
        for (const n of range(5)) {
          const message = `${who} ${n}`;
          const { revision } = await say({ message });
          expect(acknowledged.has(revision)).toBe(false);
          acknowledged.set(revision, message);
        }
      }),
    );
    const { events, cursor, job } = await whole(storeOn(server.port, { prefix }));
    expect(cursor.revision).toBe(100);
    expect(messages(events)).toEqual(range(100).map((at) => acknowledged.get(at + 1)));
    expect(job.message).toBe(acknowledged.get(100));
    for (const who of range(20))
      expect(messages(events).filter((text) => text.startsWith(`${who} `))).toEqual(
        range(5).map((n) => `${who} ${n}`),
      );
  });

  test("in bursts, of one store: the same", async () => {
    const store = { prefix: ownPrefix() };
    const publishers = range(5).map(() => publisherOn(server.port, { store }));
    const all = publishers.flatMap(({ say }, who) =>
      range(40).map((n) => say({ message: `${who} ${n}` })),
    );
    const cursors = await Promise.all(all);
    expect(new Set(cursors.map(({ epoch }) => epoch)).size).toBe(1);
    const { events } = await whole(storeOn(server.port, store));
    expect(events).toHaveLength(200);
    for (const [at, { revision }] of cursors.entries())
      expect(messages(events)[revision - 1]).toBe(`${Math.floor(at / 40)} ${at % 40}`);
  });

  test("on a job that nobody has begun: one epoch", async () => {
    const store = { prefix: ownPrefix() };
    const publishers = range(10).map(() => publisherOn(server.port, { store }));
    const cursors = await Promise.all(publishers.map(({ say }, who) => say({ message: `${who}` })));
    expect(new Set(cursors.map(({ epoch }) => epoch)).size).toBe(1);
    expect(cursors.map(({ revision }) => revision).sort((a, b) => a - b)).toEqual(
      range(10).map((at) => at + 1),
    );
  });

  test("each in its own stages: no word of one is undone by another", async () => {
    const prefix = ownPrefix();
    const publishers = range(8).map(() => publisherOn(server.port, { store: { prefix } }));
    await publishers[0]?.monitor.publish({
      type: "plan",
      jobId: "j",
      stages: range(8).map((n) => ({ stage: `s${n}` })),
    });
    await Promise.all(
      publishers.map(async ({ monitor }, n) => {
        for (const status of ["running", "completed"] as const)
          await monitor.publish({ type: "stage", jobId: "j", stage: `s${n}`, status });
      }),
    );
    const { job } = await whole(storeOn(server.port, { prefix }));
    expect(job.counts).toMatchObject({ total: 8, completed: 8 });
    expect(job).toMatchObject({ done: true, status: "completed", progress: 100 });
  });
});

/** A publisher behind a proxy, which has said one word, and a way to look at Redis past the proxy. */
async function behindProxy() {
  const proxy = await startFaultProxy(server.port);
  const prefix = ownPrefix();
  const { say, store } = publisherOn(proxy.port, { store: { prefix, timeoutMs: 250 } });
  await there(store); // so that nothing is looked up for it, and the next thing sent is the append
  await say({ message: "first" });
  const reader = storeOn(server.port, { prefix });
  const client = redisClient(server.port);
  const stored = (entries: number) =>
    eventually(`${entries} batches are stored`, async () => {
      return (await client.number("XLEN", `${prefix}{j}:log`)) === entries;
    });
  return { proxy, prefix, say, store, reader, stored };
}

describe.skipIf(withoutRedis)("a batch of unknown outcome counts once", () => {
  test("stored, and the answer lost with the connection", async () => {
    const { proxy, say, reader, stored } = await behindProxy();
    proxy.blackHole("toClient");
    const published = say({ message: "second" });
    await stored(2);
    proxy.cut();
    proxy.restore();
    const cursor = await inTime("the publish", published);
    expect(await say({ message: "third" })).toEqual({ ...cursor, revision: 3 });
    expect(messages((await whole(reader)).events)).toEqual(["first", "second", "third"]);
  });

  test("stored, and no answer in time", async () => {
    const { proxy, say, reader, stored } = await behindProxy();
    proxy.blackHole("toClient");
    const published = say({ message: "second" });
    await stored(2);
    await eventually("it gives up", async () => proxy.accepted > 2);
    proxy.cut(); // the new ones, too, are deaf
    proxy.restore();
    expect((await inTime("the publish", published)).revision).toBe(2);
    expect(messages((await whole(reader)).events)).toEqual(["first", "second"]);
  });

  test("never stored", async () => {
    const { proxy, say, reader } = await behindProxy();
    proxy.blackHole("toServer");
    const published = say({ message: "second" });
    await eventually("it gives up", async () => proxy.accepted > 2);
    proxy.cut();
    proxy.restore();
    expect((await inTime("the publish", published)).revision).toBe(2);
    expect(messages((await whole(reader)).events)).toEqual(["first", "second"]);
  });

  test("stored late, when it was looked up, and appended again, long before", async () => {
    const { proxy, say, reader } = await behindProxy();
    const old = [...proxy.connections];
    for (const connection of old) connection.latency(1_000, "toServer");
    const published = say({ message: "second" });
    expect((await inTime("the publish", published)).revision).toBe(2);
    const before = await whole(reader);
    expect(messages(before.events)).toEqual(["first", "second"]);
    // Now the first try arrives.
    await eventually("the old connections are over", async () =>
      old.every((connection) => !proxy.connections.includes(connection)),
    );
    expect(old.some(({ passed }) => passed.toServer > 0)).toBe(true);
    expect(await whole(reader)).toEqual(before);
    expect((await say({ message: "third" })).revision).toBe(3);
  });

  test("stored after it was looked up in vain, and before it is appended again", async () => {
    const { proxy, store, reader, stored } = await behindProxy();
    const base = (await whole(reader)).cursor;
    const batch = batchOf("j", 2, { message: "second" });
    for (const connection of proxy.connections) connection.latency(1_000, "toServer");
    await expect(store.append("j", base, batch)).rejects.toMatchObject({ code: "unavailable" });
    await there(store);
    expect(await store.find("j", batch.id)).toBeUndefined();
    await stored(2);
    expect(await store.append("j", base, batch)).toBe(false);
    expect(await store.find("j", batch.id)).toEqual({ ...base, revision: 3 });
    expect((await whole(reader)).events).toHaveLength(3);
  });

  test("the first of a job: it is begun once", async () => {
    const { proxy, store, reader, prefix } = await behindProxy();
    const client = redisClient(server.port);
    const batch = batchOf("k", 2);
    proxy.blackHole("toClient");
    const lost = store.append("k", null, batch).catch((thrown: unknown) => thrown);
    await eventually("it is stored", async () =>
      Boolean(await client.number("EXISTS", `${prefix}{k}:head`)),
    );
    proxy.cut();
    expect(await lost).toMatchObject({ code: "unavailable" });
    proxy.restore();
    await there(store);
    const cursor = await store.find("k", batch.id);
    expect(cursor?.revision).toBe(2);
    expect(await store.append("k", null, batch)).toBe(false);
    expect((await whole(reader, "k")).cursor).toEqual(cursor);
  });

  test("while others go on: their words stand between, and all in one order", async () => {
    const { proxy, say, reader, stored, prefix } = await behindProxy();
    const other = publisherOn(server.port, { store: { prefix } });
    proxy.blackHole("toClient");
    const published = say({ message: "second" });
    await stored(2);
    expect((await other.say({ message: "theirs" })).revision).toBe(3);
    proxy.cut();
    proxy.restore();
    expect((await inTime("the publish", published)).revision).toBe(2);
    await say({ message: "fourth" });
    const { events, job } = await whole(reader);
    expect(messages(events)).toEqual(["first", "second", "theirs", "fourth"]);
    expect(job.message).toBe("fourth");
  });

  test("a flood through a line that breaks again and again: every event once, in order", {
    timeout: 30_000,
  }, async () => {
    const { proxy, say, reader } = await behindProxy();
    const published: Promise<unknown>[] = [];
    for (const round of range(8)) {
      for (const n of range(10)) published.push(say({ message: `${round} ${n}` }));
      if (round % 2 === 0) proxy.blackHole("toClient");
      await new Promise(setImmediate);
      if (round % 4 === 1) proxy.reset();
      else proxy.cut();
      proxy.restore();
    }
    await inTime("all are stored", Promise.all(published), 20_000);
    const { events } = await whole(reader);
    expect(messages(events)).toEqual([
      "first",
      ...range(8).flatMap((round) => range(10).map((n) => `${round} ${n}`)),
    ]);
  });

  test("base and head at once: of many appends on one base, over several stores, one wins", async () => {
    const prefix = ownPrefix();
    const stores = range(5).map(() => storeOn(server.port, { prefix }));
    let base = await append(stores[0] as never, null, batchOf("j", 1));
    for (const _ of range(10)) {
      const results = await Promise.all(
        stores.map((store) => store.append("j", base, batchOf("j", 1))),
      );
      const [won, ...more] = results.filter((cursor) => cursor !== false);
      expect(more).toEqual([]);
      expect(won).toEqual({ ...base, revision: base.revision + 1 });
      base = won as typeof base;
    }
  });
});
