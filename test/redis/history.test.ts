import type { JobState, ListPlace, ListSlice, StageSnapshot } from "@org/workflow-monitor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { redisClient } from "../support/redis-client.js";
import {
  append,
  batchOf,
  changeOf,
  messages,
  publisherOn,
  range,
  storeOn,
  whole,
} from "./given.js";

let server: RedisServer;
let prefixes = 0;
const ownPrefix = () => `history${++prefixes}:`;

beforeAll(async () => {
  if (!withoutRedis) server = await startRedis();
});
afterAll(() => server?.close());

const bytesOf = (events: string[]) =>
  events.reduce((sum, text) => sum + Buffer.byteLength(text), 0);

/** A batch of two events of about `bytes` together, which tell their number. */
function batchWith(first: number, bytes: number) {
  const batch = batchOf("j", 2);
  batch.revisions = batch.revisions.map((revision, at) => ({
    ...revision,
    event: JSON.stringify({ message: `${first + at}`, fill: "ü".repeat(bytes / 4) }),
  }));
  return batch;
}

describe.skipIf(withoutRedis)("history", () => {
  test("is trimmed by bytes, and what is told of it has no gap, whoever asks from where", async () => {
    const historyBytes = 10_000;
    const store = storeOn(server.port, { prefix: ownPrefix(), historyBytes, keepMs: 0 });
    let cursor = null as Awaited<ReturnType<typeof append>> | null;
    for (const n of range(60)) {
      cursor = await append(store, cursor, batchWith(2 * n + 1, 1_000));
      const { events } = await whole(store);
      const [first] = messages(events);
      expect(messages(events)).toEqual(range(events.length).map((at) => `${Number(first) + at}`));
      expect(messages(events).at(-1)).toBe(`${cursor.revision}`);
      if (n < 10) expect(events).toHaveLength(2 * n + 2);
      else expect(bytesOf(events)).toBeGreaterThanOrEqual(historyBytes);
      expect(bytesOf(events)).toBeLessThan(historyBytes * 1.25 + 1_100);
    }
    const kept = (await whole(store)).events;
    for (const behind of range(121)) {
      const after = { epoch: cursor?.epoch ?? "", revision: 120 - behind };
      const record = await store.read("j", after);
      expect(record?.cursor).toEqual(cursor);
      if (behind > kept.length) expect(record?.events).toEqual(kept);
      else expect(record?.events).toEqual(kept.slice(kept.length - behind));
    }
  });

  test("that is young is kept, up to 8 times the bytes", async () => {
    const historyBytes = 5_000;
    const store = storeOn(server.port, { prefix: ownPrefix(), historyBytes, keepMs: 3_600_000 });
    let cursor = null as Awaited<ReturnType<typeof append>> | null;
    for (const n of range(80)) {
      cursor = await append(store, cursor, batchWith(2 * n + 1, 1_000));
      const { events } = await whole(store);
      expect(messages(events).at(-1)).toBe(`${cursor.revision}`);
      if (n < 30) expect(events).toHaveLength(cursor.revision);
      expect(bytesOf(events)).toBeLessThanOrEqual(8 * historyBytes + 1_100);
    }
    expect(bytesOf((await whole(store)).events)).toBeGreaterThan(4 * historyBytes);
  });

  test("of batches larger than itself is the last one", async () => {
    const store = storeOn(server.port, { prefix: ownPrefix(), historyBytes: 1_000, keepMs: 0 });
    let cursor = null as Awaited<ReturnType<typeof append>> | null;
    for (const n of range(5)) {
      cursor = await append(store, cursor, batchWith(2 * n + 1, 64 * 1024));
      expect(messages((await whole(store)).events)).toEqual([`${2 * n + 1}`, `${2 * n + 2}`]);
    }
  });

  test("of a batch of 64 revisions and 64 KiB comes back to the byte", async () => {
    const { store, monitor } = publisherOn(server.port, { store: { prefix: ownPrefix() } });
    const follower = storeOn(server.port, { prefix: ownPrefix() });
    await follower.health();
    const texts = range(64).map((n) => `${n} ${'"\\\u2028é😀 '.repeat(60)}`);
    await Promise.all(
      texts.map((message) => monitor.publish({ type: "job", jobId: "j", message })),
    );
    const { events, job } = await whole(store);
    expect(messages(events)).toEqual(texts.map((text) => text.slice(0, 512)));
    expect(job.message).toBe(texts.at(-1)?.slice(0, 512));
  });
});

describe.skipIf(withoutRedis)("a big job", () => {
  test("of 5,000 stages is the same bytes; stages that its plan drops leave Redis", {
    timeout: 20_000,
  }, async () => {
    const prefix = ownPrefix();
    const { store, monitor } = publisherOn(server.port, { store: { prefix } });
    const client = redisClient(server.port);
    const plan = (stages: string[]) =>
      monitor.publish({ type: "plan", jobId: "j", stages: stages.map((stage) => ({ stage })) });
    const all = range(5_000).map((n) => `stage ${n}`);
    await plan(all);
    await monitor.publish({ type: "stage", jobId: "j", stage: "stage 17", status: "running" });
    const { job } = await whole(store);
    expect(job.stages.map(({ stage }) => stage)).toEqual(all);
    expect(await client.number("HLEN", `${prefix}{j}:head`)).toBeGreaterThan(5_000);

    await plan(["new", "stage 4999"]);
    const after = (await whole(store)).job;
    expect(after.stages.map(({ stage }) => stage)).toEqual(["new", "stage 4999", "stage 17"]);
    expect(after.stages[2]).toMatchObject({ status: "running", planned: false });
    const fields = await client.texts("HKEYS", `${prefix}{j}:head`);
    expect(fields.filter((field) => field.startsWith("s:")).sort()).toEqual([
      "s:new",
      "s:stage 17",
      "s:stage 4999",
    ]);
    // And one that comes back is new.
    await plan(["stage 3", "new", "stage 4999", "stage 17"]);
    expect((await whole(store)).job.stages.map(({ stage }) => stage)).toEqual([
      "stage 3",
      "new",
      "stage 4999",
      "stage 17",
    ]);
  });

  test("is put together of what changed as if it had been written whole, whatever changes", {
    timeout: 20_000,
  }, async () => {
    const prefix = ownPrefix();
    const { store, monitor } = publisherOn(server.port, { store: { prefix } });
    const told: JobState[] = [];
    monitor.on("update", ({ job: { epoch: _epoch, revision: _revision, ...job } }) => {
      told.push(job);
    });
    const jobId = "j";
    const says = [
      { type: "plan", stages: range(30).map((n) => ({ stage: `s${n}` })), labels: { a: "1" } },
      ...range(10).map((n) => ({ type: "stage", stage: `s${n}`, status: "running" })),
      { type: "plan", stages: [{ stage: "s20", weight: 3 }, { stage: "s1" }], name: "again" },
      { type: "stage", stage: "another", progress: { current: 1, total: 3 } },
      { type: "job", metadata: { deep: [null, { ü: "😀" }] }, message: "m" },
      { type: "job", metadata: null, message: null, labels: null },
      { type: "stage", stage: "s1", status: "failed", error: { code: "E", message: "no" } },
      { type: "stage", stage: "s1", attempt: 2, status: "running" },
      { type: "job", status: "completed" },
      { type: "job", run: 2, status: "running" },
    ];
    for (const event of says) {
      await monitor.publish({ jobId, timestamp: "2026-01-01T00:00:00.000Z", ...event } as never);
      expect(JSON.stringify((await whole(store)).job)).toBe(JSON.stringify(told.at(-1)));
    }
    expect(told).toHaveLength(says.length);
  });
});

const HOSTILE_IDS = [
  "{}",
  "}{",
  "a{b}c",
  "{jobs}",
  "jobs",
  "a b",
  "a:head",
  "a:log",
  "a%7Bb%7D",
  "%",
  "%00",
  "ü/ö?#&=",
  "😀".repeat(8),
  "..a",
  "'\"\\`$(x)",
  "*?[a-z]",
  "CaSe",
  "case",
  "0",
  "-1",
];

describe.skipIf(withoutRedis)("hostile names", () => {
  test("as job ids: each is a job of its own, to the byte", async () => {
    const store = storeOn(server.port, { prefix: ownPrefix() });
    const heard: string[] = [];
    for (const jobId of HOSTILE_IDS)
      await store.follow(jobId, ({ id }) => heard.push(`${jobId} ${id}`));
    const batches = HOSTILE_IDS.map((jobId) => batchOf(jobId, 1, { message: jobId }));
    for (const batch of batches) await append(store, null, batch);
    for (const batch of batches) {
      const record = await whole(store, batch.job.jobId);
      expect(JSON.stringify(record.job)).toBe(JSON.stringify(batch.job));
      expect(record.events).toEqual(batch.revisions.map(({ event }) => event));
      expect(await store.find(batch.job.jobId, batch.id)).toEqual(record.cursor);
    }
    await store.health(); // what was announced before has been heard
    expect(heard).toEqual(batches.map(({ job, id }) => `${job.jobId} ${id}`));
    const listed: string[] = [];
    let after: ListPlace | null = null;
    do {
      const page: ListSlice = await store.list({ limit: 3, ...(after && { after }) });
      listed.push(...page.jobs.map(({ jobId }) => jobId));
      after = page.next;
    } while (after);
    expect([...listed].sort()).toEqual([...HOSTILE_IDS].sort());
  });

  test("as stages and labels, published: to the byte, and gone when the plan drops them", async () => {
    const prefix = ownPrefix();
    const { store, monitor } = publisherOn(server.port, { store: { prefix } });
    let told: unknown;
    monitor.on("update", ({ job: { epoch: _epoch, revision: _revision, ...job } }) => {
      told = job;
    });
    const names = [
      ...HOSTILE_IDS,
      "stages",
      "keys",
      "toString",
      "length",
      "s:a",
      "j:status",
      "\u00a0",
    ];
    const labels = Object.fromEntries(names.map((name) => [name, name]));
    await monitor.publish({ type: "plan", jobId: "j", stages: [{ stage: "first" }] });
    await monitor.publish({
      type: "plan",
      jobId: "j",
      labels,
      stages: names.map((stage) => ({ stage, name: stage })),
    });
    expect(JSON.stringify((await whole(store)).job)).toBe(JSON.stringify(told));
    for (const stage of names) {
      await monitor.publish({
        type: "stage",
        jobId: "j",
        stage,
        status: "running",
        message: stage,
      });
      expect(JSON.stringify((await whole(store)).job)).toBe(JSON.stringify(told));
    }
    for (const [key, value] of Object.entries(labels))
      expect((await store.list({ limit: 9, labels: { [key]: value } })).jobs).toHaveLength(1);
    expect((await store.list({ limit: 9, labels: { CaSe: "case" } })).jobs).toEqual([]);
  });

  test("a name that Redis cannot hold (half a surrogate pair) leaves nothing half written", async () => {
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const stages = ["a", "b"].map((stage) => ({ stage, name: stage }) as StageSnapshot);
    const first = batchOf("j", 1, { stages });
    const cursor = await append(store, null, first);
    const before = await whole(store);
    const half = { stage: "a\ud83d", name: "half" } as StageSnapshot;
    const bad = changeOf(first.job, { ...first.job, stages: [...stages.slice(1), half] });
    await expect(store.append("j", cursor, bad)).rejects.toMatchObject({ code: "damaged" });
    expect(await store.find("j", bad.id)).toBeUndefined();
    expect(await whole(store)).toEqual(before);
    expect((await append(store, cursor, batchOf("j", 1))).revision).toBe(2);
  });

  test("__proto__ as a key of labels, past the border: to the byte", async () => {
    const store = storeOn(server.port, { prefix: ownPrefix() });
    const labels = JSON.parse('{"__proto__":"x","constructor":"y"}') as Record<string, string>;
    const batch = batchOf("j", 1, { labels });
    await append(store, null, batch);
    expect(JSON.stringify((await whole(store)).job)).toBe(JSON.stringify(batch.job));
    const own = Object.fromEntries([["constructor", "y"]]);
    expect((await store.list({ limit: 9, labels: own })).jobs).toHaveLength(1);
    expect((await store.list({ limit: 9, labels: { constructor: "x" } })).jobs).toEqual([]);
    expect((await store.list({ limit: 9, labels: { toString: "x" } })).jobs).toEqual([]);
  });

  test("a stage that is called __proto__, past the border: to the byte, and gone when it goes", async () => {
    const store = storeOn(server.port, { prefix: ownPrefix() });
    const stages = ["__proto__", "b"].map((stage) => ({ stage, name: stage }) as StageSnapshot);
    const first = batchOf("j", 1, { stages });
    const cursor = await append(store, null, first);
    expect(JSON.stringify((await whole(store)).job)).toBe(JSON.stringify(first.job));
    const [, last] = stages as [StageSnapshot, StageSnapshot];
    const next = changeOf(first.job, { ...first.job, stages: [last] });
    await append(store, cursor, next);
    expect(JSON.stringify((await whole(store)).job)).toBe(JSON.stringify(next.job));
  });
});
