import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { type RedisClient, redisClient } from "../support/redis-client.js";
import { recorder, startServer } from "../support/server.js";
import { inTime } from "../support/wait.js";
import { append, batchOf, publisherOn, range, storeOn, whole } from "./given.js";

let server: RedisServer;
let client: RedisClient;

beforeAll(async () => {
  if (!withoutRedis) server = await startRedis();
});
afterAll(() => server?.close());

let prefixes = 0;
const ownPrefix = () => `damage${++prefixes}:`;

interface Damage {
  what: string;
  /** `key` is what the names of the job's keys begin with. */
  harm(key: string): Promise<unknown>;
  /** Whether polls see it: they do not read the log. */
  polled?: boolean;
}

const DAMAGES: Damage[] = [
  {
    what: "a head that is a string",
    async harm(key) {
      await client.call("DEL", `${key}:head`);
      await client.call("SET", `${key}:head`, "x");
    },
  },
  {
    what: "a log that is a list",
    async harm(key) {
      await client.call("DEL", `${key}:log`);
      await client.call("RPUSH", `${key}:log`, "x");
    },
    polled: false,
  },
  {
    what: "a stage that is no JSON",
    harm: (key) => client.call("HSET", `${key}:head`, "s:a", '{"stage":"a","na'),
  },
  { what: "a stage that is missing", harm: (key) => client.call("HDEL", `${key}:head`, "s:a") },
  {
    what: "a list of stages that is no JSON",
    harm: (key) => client.call("HSET", `${key}:head`, "stages", '["a",'),
  },
  {
    what: "labels that are no JSON",
    harm: (key) => client.call("HSET", `${key}:head`, "j:labels", '{"a'),
  },
  { what: "keys that are missing", harm: (key) => client.call("HDEL", `${key}:head`, "keys") },
  {
    what: "an epoch that is none",
    harm: (key) => client.call("HSET", `${key}:head`, "epoch", "???"),
  },
  {
    what: "a revision that is no number",
    harm: (key) => client.call("HSET", `${key}:head`, "revision", "x"),
  },
  {
    what: "bytes that are no number",
    harm: (key) => client.call("HSET", `${key}:head`, "bytes", "x"),
  },
  {
    what: "a time that is no number",
    harm: (key) => client.call("HSET", `${key}:head`, "expires", "x"),
  },
];

/** What is told of a damaged job: its name, its keys, and what to do. */
const message = (prefix: string) =>
  expect.stringMatching(
    new RegExp(
      `^The data of job "bad" .+delete the keys ${prefix}{bad}:head and ${prefix}{bad}:log`,
    ),
  );

describe.skipIf(withoutRedis).each(DAMAGES)("[S4] [R20] $what", ({ harm, polled = true }) => {
  async function damaged() {
    client = redisClient(server.port);
    const prefix = ownPrefix();
    const maker = publisherOn(server.port, { store: { prefix } });
    const stages = [{ stage: "a" }, { stage: "b" }];
    for (const jobId of ["bad", "good"])
      await maker.monitor.publish({ type: "plan", jobId, stages });
    await maker.store.list({ limit: 1 }); // the index is written
    await harm(`${prefix}{bad}`);
    return { prefix };
  }

  test("costs the job that has it, and no other", async () => {
    const { prefix } = await damaged();
    const { logger, lines } = recorder();
    const store = storeOn(server.port, { prefix });
    const node = await startServer({ store, logger, limits: { queuedEvents: 50 } });
    const errors: { code: string; jobId: string | undefined; message: string }[] = [];
    node.monitor.on("error", (error) => errors.push(error));

    const rejected = range(40).map((n) =>
      node.monitor.publish({ type: "job", jobId: "bad", id: `e${n}`, message: `${n}` }),
    );
    for (const each of rejected)
      await expect(inTime("an answer", each)).rejects.toMatchObject({
        code: "damaged",
        jobId: "bad",
        message: message(prefix),
      });
    await node.monitor.publish({ type: "job", jobId: "good", status: "running" });
    await node.monitor.publish({ type: "job", jobId: "new", status: "running" });

    const viewer = await node.watch("bad");
    const told = { code: "damaged", retryable: true, retryAfterMs: 30_000 };
    expect(await viewer.expect("error")).toMatchObject(told);
    expect((await viewer.closed).code).toBe(1011);
    const good = await node.watch("good");
    await good.expect("snapshot");
    if (polled) {
      const poll = await node.poll("bad");
      expect(poll).toMatchObject({ status: 500 });
      expect(JSON.parse(poll.text)).toMatchObject({ code: "damaged" });
      expect(poll.text).not.toContain(prefix);
    }

    const list = await node.get("/jobs");
    expect(list.status).toBe(200);
    const ids = (JSON.parse(list.text) as { jobs: { jobId: string }[] }).jobs.map(
      ({ jobId }) => jobId,
    );
    expect(ids).toEqual(expect.arrayContaining(["good", "new"]));

    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({ code: "damaged", jobId: "bad", message: message(prefix) });
    const loud = lines.filter(({ level }) => level === "warn" || level === "error");
    expect(loud.map((line) => line.message)).toEqual([message(prefix)]);
  });

  test("is over when its keys are deleted: a publisher that knows the job brings it back", async () => {
    const { prefix } = await damaged();
    const store = storeOn(server.port, { prefix });
    const { monitor } = publisherOn(server.port, { store: { prefix } });
    await client.call("DEL", `${prefix}{bad}:head`, `${prefix}{bad}:log`);
    const stages = [{ stage: "a" }];
    await monitor.publish({ type: "plan", jobId: "bad", stages, labels: { l: "v" } });
    await monitor.publish({ type: "job", jobId: "bad", message: "known" });
    await harm(`${prefix}{bad}`);
    // An event with an id makes the publisher read.
    await expect(
      monitor.publish({ type: "job", jobId: "bad", id: "e1", message: "lost" }),
    ).rejects.toMatchObject({ code: "damaged" });
    await client.call("DEL", `${prefix}{bad}:head`, `${prefix}{bad}:log`);
    await monitor.publish({ type: "job", jobId: "bad", status: "running" });
    expect(await store.read("bad")).toMatchObject({
      job: { message: "known", status: "running" },
    });
  });
});

describe.skipIf(withoutRedis)("[S4] [R20] the index of jobs", () => {
  async function listed() {
    client = redisClient(server.port);
    const prefix = ownPrefix();
    const { logger, lines } = recorder();
    const store = storeOn(server.port, { prefix, logger });
    for (const jobId of ["a", "b"])
      await append(store, null, batchOf(jobId, 1, { status: "running", labels: { l: "v" } }));
    await store.list({ limit: 9 });
    const rows = async (query: object = {}) =>
      (await store.list({ limit: 9, ...query })).jobs.map(({ jobId }) => jobId).sort();
    const warned = () => lines.filter(({ level }) => level === "warn").map((line) => line.message);
    return { prefix, store, rows, warned };
  }

  test.each(["{", "[]", "[1,2,3]", "null", '"x"', ""])(
    "with an entry that is none (%s) lists the job, and puts it right",
    async (garbage) => {
      const { prefix, store, rows } = await listed();
      const entries = `${prefix}{jobs}:entries`;
      const before = await client.text("HGET", entries, "a");
      await client.call("HSET", entries, "a", garbage);
      expect(await rows()).toEqual(["a", "b"]);
      expect(JSON.parse(await client.text("HGET", entries, "a"))).toEqual(JSON.parse(before));
      await client.call("HSET", entries, "a", garbage);
      const { cursor, job } = await whole(store, "a");
      await append(store, cursor, batchOf("a", 1, { ...job, status: "waiting" }));
      expect(await rows({ status: "waiting" })).toEqual(["a"]);
    },
  );

  test.each([
    ["entries", true],
    ["expiry", true],
    ["all", false],
    ["status:running", false],
  ])(
    "with a key of another type (%s) is written anew, and publishing goes on",
    async (key, kept) => {
      const { prefix, store, rows, warned } = await listed();
      const query = key.startsWith("status") ? { status: "running" } : {};
      await client.call("DEL", `${prefix}{jobs}:${key}`);
      await client.call("SET", `${prefix}{jobs}:${key}`, "x");
      expect(await rows(query)).toEqual(kept ? ["a", "b"] : []);
      const { cursor } = await whole(store, "a");
      await append(store, cursor, batchOf("a", 1, { status: "running" }));
      expect(await rows(query)).toEqual(kept ? ["a", "b"] : ["a"]);
      await client.call("DEL", `${prefix}{jobs}:${key}`);
      await client.call("SET", `${prefix}{jobs}:${key}`, "x");
      const second = await whole(store, "b");
      await append(store, second.cursor, batchOf("b", 1, { status: "running", labels: {} }));
      expect(await rows(query)).toContain("b");
      expect(warned().length).toBeGreaterThan(0);
      for (const line of warned())
        expect(line).toMatch(/^The index of jobs was damaged \(WRONGTYPE .+\): deleted .+\.$/);
    },
  );

  test("with a damaged job in it says so, and sweeps it when its time is over", async () => {
    const { prefix, store, rows } = await listed();
    await client.call("HSET", `${prefix}{a}:head`, "j:labels", "{");
    const page = await store.list({ limit: 9 });
    expect(page.jobs.map(({ jobId }) => jobId)).toEqual(["b"]);
    expect(page).toMatchObject({ damaged: [{ code: "damaged", jobId: "a" }], next: null });
    await client.call("ZADD", `${prefix}{jobs}:expiry`, 1, "a");
    await append(store, null, batchOf("c", 1, { status: "running" }));
    expect(await rows()).toEqual(["b", "c"]);
    expect(await client.call("HGET", `${prefix}{jobs}:entries`, "a")).toBeNull();
  });
});

test.skipIf(withoutRedis)(
  "[S4] a script that Redis stops, or a right that is missing, is no damage",
  async () => {
    const own = await startRedis();
    onTestFinished(() => own.close());
    client = redisClient(own.port);
    await client.call("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-hset");
    const store = storeOn(own.port, { url: `redis://app:pw@127.0.0.1:${own.port}` });
    await expect(store.append("j", null, batchOf("j", 1))).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringMatching(/give its user the rights/),
    });
  },
);
