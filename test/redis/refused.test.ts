import { existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { startFaultProxy } from "../support/fault-proxy.js";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { type RedisClient, redisClient } from "../support/redis-client.js";
import { type LogLine, recorder, startServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";
import { append, batchOf, eventually, publisherOn, range, storeOn, there } from "./given.js";

async function redis(): Promise<{ server: RedisServer; client: RedisClient }> {
  const server = await startRedis();
  onTestFinished(() => server.close());
  return { server, client: redisClient(server.port) };
}

const loud = (lines: LogLine[]) =>
  lines.filter(({ level }) => level === "warn" || level === "error").map(({ message }) => message);

interface Refusal {
  why: string;
  refuse(client: RedisClient): Promise<unknown>;
  allow(client: RedisClient): Promise<unknown>;
  /** What the operator reads. */
  says: RegExp;
}

/** A snapshot that fails: where it is to be written, there is a folder. */
async function snapshot(client: RedisClient, fails: boolean): Promise<void> {
  const [, folder = ""] = await client.texts("CONFIG", "GET", "dir");
  const file = join(folder, "dump.rdb");
  if (existsSync(file)) rmSync(file, { recursive: true });
  if (fails) mkdirSync(join(file, "full"), { recursive: true });
  await client.call("CONFIG", "SET", "save", "3600 1000000");
  await client.call("BGSAVE");
  const status = fails ? "err" : "ok";
  await eventually(`the snapshot is ${status}`, async () => {
    const last = await client.info("persistence", "rdb_last_bgsave_status");
    return last === status && (await client.info("persistence", "rdb_bgsave_in_progress")) === "0";
  });
}

const REFUSALS: Refusal[] = [
  {
    why: "its memory is full",
    refuse: (client) => client.call("CONFIG", "SET", "maxmemory", 1),
    allow: (client) => client.call("CONFIG", "SET", "maxmemory", 0),
    says: /Redis refuses a command \(OOM .+\): raise maxmemory or free memory\.$/,
  },
  {
    why: "it cannot write to its disk",
    refuse: (client) => snapshot(client, true),
    allow: (client) => snapshot(client, false),
    says: /Redis refuses a command \(MISCONF .+\): make its dir writable, .+\.$/s,
  },
  {
    why: "it has too few replicas",
    refuse: (client) => client.call("CONFIG", "SET", "min-replicas-to-write", 1),
    allow: (client) => client.call("CONFIG", "SET", "min-replicas-to-write", 0),
    says: /Redis refuses a command \(NOREPLICAS .+\): bring its replicas back or .+\.$/,
  },
  {
    why: "the user may not write",
    refuse: (client) => client.call("ACL", "SETUSER", "default", "-@write"),
    allow: (client) => client.call("ACL", "SETUSER", "default", "+@write"),
    says: /Redis refuses a command \(.+can't run this command.+\): give its user the rights .+\.$/,
  },
  {
    why: "it is a replica",
    refuse: (client) => client.call("REPLICAOF", "127.0.0.1", 1),
    allow: (client) => client.call("REPLICAOF", "NO", "ONE"),
    says: /Redis refuses a command \(READONLY .+\): connect to the master, .+\.$/,
  },
];

describe.skipIf(withoutRedis).each(REFUSALS)(
  "[fault R1] [D12] Redis refuses writes: $why",
  ({ refuse, allow, says }) => {
    test("publishers wait, are told why, and go on by themselves; no end is lost", async () => {
      const { server, client } = await redis();
      const { logger, lines } = recorder();
      const store = storeOn(server.port);
      const node = await startServer({ store, logger, limits: { queuedEvents: 40 } });
      const { monitor } = node;
      const ids = range(10).map((n) => `j${n}`);
      for (const jobId of ids) await monitor.publish({ type: "job", jobId, status: "running" });
      const viewer = await node.watch("j0");
      await viewer.expect("snapshot");

      await refuse(client);
      const waiting = ids.flatMap((jobId) => [
        monitor.publish({ type: "job", jobId, message: "waits" }),
        monitor.publish({ type: "job", jobId, status: "completed" }),
      ]);
      let answered = 0;
      const count = () => {
        answered += 1;
      };
      for (const each of waiting) void each.then(count, count);
      await until("it is told", () => loud(lines).some((line) => says.test(line)));
      // It does not help to ask again.
      for (const jobId of ids) {
        const error = await store
          .append(jobId, null, batchOf(jobId, 1))
          .then(String, (thrown: { code: string }) => thrown.code);
        expect(["unavailable", "false"]).toContain(error);
      }
      const more = range(20).map((n) =>
        monitor.publish({ type: "job", jobId: "new", message: `${n}` }),
      );
      await expect(
        monitor.publish({ type: "job", jobId: "new", message: "too many" }),
      ).rejects.toMatchObject({ code: "overloaded" });
      expect(answered).toBe(0);
      expect(loud(lines).filter((line) => says.test(line))).toHaveLength(1);

      await allow(client);
      await inTime("what waited", Promise.all([...waiting, ...more]), 15_000);
      for (const jobId of ids)
        expect(await monitor.get(jobId)).toMatchObject({ status: "completed", message: "waits" });
      await viewer.readUntil(({ type }) => type === "end");
    });

    test("a monitor closes all the same, and what waits is told", async () => {
      const { server, client } = await redis();
      const { monitor, say, store } = publisherOn(server.port);
      await say({ status: "running" });
      await refuse(client);
      const waiting = say({ status: "completed" });
      await expect(store.append("k", null, batchOf("k", 1))).rejects.toMatchObject({
        code: "unavailable",
      });
      await inTime("monitor.close()", monitor.close());
      await expect(waiting).rejects.toMatchObject({ code: "closed" });
    });
  },
);

describe.skipIf(withoutRedis)("[fault R1] a Redis that does not let write", () => {
  test("is not connected to again for each command that it refuses", async () => {
    const { server, client } = await redis();
    const store = storeOn(server.port);
    const cursor = await append(store, null, batchOf("j", 1));
    await client.call("REPLICAOF", "127.0.0.1", 1);
    const connections = async () =>
      Number(await client.info("stats", "total_connections_received"));
    const before = await connections();
    let refused = 0;
    for (let n = 0; n < 100; n += 1) {
      await there(store);
      const rejects = store.append("j", cursor, batchOf("j", 1));
      await rejects.catch(({ message }: Error) => {
        if (message.includes("READONLY")) refused += 1;
      });
    }
    expect(refused).toBeGreaterThan(50);
    expect((await connections()) - before).toBeLessThan(10);
  });
});

/** What the README of the store lists. */
const RIGHTS = "~wm:* &wm:* +@read +@write +@scripting +@pubsub +@connection +info +time";

describe.skipIf(withoutRedis)("[S16] a user", () => {
  test("who has the rights of the README needs no others", async () => {
    const { server, client } = await redis();
    await client.call("ACL", "SETUSER", "app", "on", ">pw", "-@all", ...RIGHTS.split(" "));
    const store = storeOn(server.port, { url: `redis://app:pw@127.0.0.1:${server.port}` });
    const { logger, lines } = recorder();
    const node = await startServer({ store, logger });
    await node.monitor.publish({ type: "plan", jobId: "j", stages: [{ stage: "a" }] });
    const viewer = await node.watch("j");
    await viewer.expect("snapshot");
    await node.monitor.publish({ type: "stage", jobId: "j", stage: "a", status: "completed" });
    await viewer.readUntil(({ type }) => type === "end");
    await store.health();
    expect((await store.list({ limit: 1, status: "completed" })).jobs).toHaveLength(1);
    // The keys are mended, too.
    await client.call("SET", "wm:{jobs}:entries", "x");
    expect((await store.list({ limit: 1 })).jobs).toHaveLength(1);
    expect(loud(lines)).toEqual([]);
  });

  test("who may not INFO is tried more and more rarely, and the log says what is missing", async () => {
    const { server, client } = await redis();
    const printed = vi.spyOn(console, "warn").mockImplementation(() => {});
    onTestFinished(() => printed.mockRestore());
    await client.call("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-info");
    const proxy = await startFaultProxy(server.port);
    const { logger, lines } = recorder();
    const begun = performance.now();
    const url = `redis://app:secret@127.0.0.1:${proxy.port}`;
    const store = storeOn(proxy.port, { url, logger });
    // Both connections five times: waits of at least 50, 100, 200 and 400 ms between them.
    await until("it has tried", () => proxy.accepted >= 10, 20_000);
    expect(performance.now() - begun).toBeGreaterThan(700);
    expect(loud(lines)).toEqual([
      expect.stringMatching(
        /^Redis cannot be used \(NOPERM .+'info'.+\): give its user the rights /,
      ),
    ]);
    expect(printed).not.toHaveBeenCalled();
    await client.call("ACL", "SETUSER", "app", "+info");
    await there(store);
    await store.health();
  });
});

describe.skipIf(withoutRedis)("[R2] the log says why Redis cannot be used", () => {
  test.each([
    [
      "a wrong password",
      { url: "redis://:hunter2@127.0.0.1:PORT" },
      /\(WRONGPASS .+\): set the right/,
    ],
    ["no password", { url: "redis://127.0.0.1:PORT" }, /\(NOAUTH .+\): set the right/],
    ["a wrong port", { url: "redis://:hunter2@127.0.0.1:1" }, /\(.*ECONNREFUSED.*\): check that/],
  ])("%s", async (_, { url }, says) => {
    const { server, client } = await redis();
    await client.call("CONFIG", "SET", "requirepass", "right");
    const { logger, lines } = recorder();
    const store = storeOn(undefined, {
      url: url.replace("PORT", `${server.port}`),
      logger,
      timeoutMs: 500,
    });
    await until("it is told", () => loud(lines).length > 0);
    await expect(store.health()).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringMatching(says),
    });
    expect(loud(lines)).toEqual([expect.stringMatching(says)]);
    expect(JSON.stringify(lines)).not.toContain("hunter2");
  });

  test("[S11] a url of another kind is refused without showing it", () => {
    expect(() => storeOn(undefined, { url: "http://:hunter2@host" })).toThrow(
      /^url must begin with redis:\/\/ or rediss:\/\/\.$/,
    );
  });
});
