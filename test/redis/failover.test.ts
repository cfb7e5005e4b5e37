import { createHistory } from "@org/workflow-monitor/testing";
import type { RedisStoreOptions } from "@org/workflow-monitor-redis";
import { describe, expect, onTestFinished, test } from "vitest";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.js";
import { overEventPoll, overEventStream } from "../support/http-watchers.js";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { redisClient } from "../support/redis-client.js";
import { startSentinel } from "../support/sentinel.js";
import { startServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";
import { overWebSocket, startWatcher, type Watcher } from "../support/watchers.js";
import {
  append,
  away,
  batchOf,
  eventually,
  publisherOn,
  range,
  type Store,
  storeOn,
  there,
  whole,
} from "./given.js";

interface Pair {
  master: RedisServer;
  replica: RedisServer;
  /** Between the replica and the master. */
  line: FaultProxy;
  /** Resolves when the replica has what the master has. */
  replicated(): Promise<void>;
  /** The master dies, and the replica takes its place, its port too, with what it has. */
  promote(stores: Store[]): Promise<void>;
}

/** @param direct without the line in between: the replica names the master as others do */
async function pair({ direct = false } = {}): Promise<Pair> {
  const master = await startRedis({ args: ["--repl-diskless-sync-delay", "0"] });
  onTestFinished(() => master.close());
  const line = await startFaultProxy(master.port);
  const replica = await startRedis();
  onTestFinished(() => replica.close());
  const admin = redisClient(replica.port);
  await admin.call("REPLICAOF", "127.0.0.1", direct ? master.port : line.port);
  await eventually(
    "it is in step",
    async () => (await admin.info("replication", "master_link_status")) === "up",
  );
  const of = redisClient(master.port);
  return {
    master,
    replica,
    line,
    async replicated() {
      const written = Number(await of.info("replication", "master_repl_offset"));
      await eventually("it is in step", async () => {
        return Number(await admin.info("replication", "slave_repl_offset")) >= written;
      });
    },
    async promote(stores) {
      await master.stop("SIGKILL");
      await Promise.all(stores.map(away));
      await admin.call("REPLICAOF", "NO", "ONE");
      await admin.call("CONFIG", "SET", "port", master.port);
      await Promise.all(stores.map(there));
    },
  };
}

describe.skipIf(withoutRedis)("[R18] a replica that lagged is promoted", () => {
  test("what it lacks of what was acknowledged comes back, in an epoch of its own", async () => {
    const { master, line, replicated, promote } = await pair();
    const one = publisherOn(master.port);
    const other = publisherOn(master.port);
    const reader = storeOn(master.port);
    await there(reader);
    const first = await one.say({ status: "running", labels: { by: "one" } });
    await replicated();
    line.blackHole();
    await one.say({ message: "lost" });
    const last = await other.say({ reason: "lost, too" });
    expect(last).toEqual({ ...first, revision: 3 });
    await promote([one.store, other.store, reader]);
    await eventually("all of it is back", async () => {
      const job = (await reader.read("j"))?.job;
      return job?.message === "lost" && job.reason === "lost, too";
    });
    await one.say({ message: "on" });
    await other.say({ reason: "on" });
    const { job, cursor } = await whole(reader);
    expect(job).toMatchObject({
      status: "running",
      labels: { by: "one" },
      message: "on",
      reason: "on",
    });
    expect(cursor.epoch).not.toBe(first.epoch);
  });

  test("nobody ever sees two different things at one cursor", { timeout: 30_000 }, async () => {
    const { master, line, replicated, promote } = await pair();
    const history = createHistory();
    const publishers = range(2).map(() => publisherOn(master.port, { drainMs: 1_000 }));
    for (const { monitor } of publishers)
      monitor.on("update", ({ jobId, cursor, event }) => history.published(jobId, cursor, event));
    const store = storeOn(master.port);
    const node = await startServer({ store });
    await publishers[0]?.say({ status: "running" });
    const ways = [
      overWebSocket(node.port),
      overWebSocket(node.port, "delta"),
      overEventStream(node.port),
      overEventPoll(node.port, 2),
    ];
    const watchers: Watcher[] = ways.map((over, n) =>
      startWatcher({ history, viewer: `v${n}`, jobId: "j", over, stubborn: true }),
    );
    const flood = (count: number) =>
      Promise.all(
        publishers.map(async ({ say }, who) => {
          for (const n of range(count)) await say({ message: `${who} ${n} of ${count}` });
        }),
      );
    await flood(20);
    await replicated();
    line.blackHole();
    await flood(21); // acknowledged, seen by viewers, and lost
    history.indeterminate("j"); // seen, but not acknowledged when the master goes
    const during = flood(22);
    await promote([store, ...publishers.map((publisher) => publisher.store)]);
    await during;
    await flood(23);
    await publishers[1]?.say({ status: "completed" });
    await Promise.all(watchers.map(({ ended }) => ended));
    const job = await node.monitor.get("j");
    if (!job) throw new Error("no job");
    history.head("j", job, job);
    history.check();
    expect(history.summary.published).toBeGreaterThanOrEqual(170);
  });

  test("a reader that saw more than it has is told the state of another epoch, not sent back", async () => {
    const { master, line, replicated, promote } = await pair();
    const store = storeOn(master.port);
    const first = await append(store, null, batchOf("j", 2, { message: "replicated" }));
    await replicated();
    line.blackHole();
    const lost = await append(store, first, batchOf("j", 2, { message: "lost" }));
    await promote([store]);
    const record = await store.read("j", lost);
    expect(record?.cursor.epoch).not.toBe(first.epoch);
    expect(record).toMatchObject({ cursor: { revision: 0 }, events: [], carried: [first] });
    // The publisher of what was lost may go on from there: it brings all of it along.
    const next = await append(store, lost, batchOf("j", 1, { message: "on" }));
    expect([first.epoch, record?.cursor.epoch]).not.toContain(next.epoch);
    expect((await whole(store)).carried).toEqual(expect.arrayContaining([first, lost]));
  });
});

describe.skipIf(withoutRedis).each([
  { what: "dies", signal: "SIGKILL" },
  { what: "hangs", signal: "SIGSTOP" },
] as const)("the master behind Sentinel $what", ({ signal }) => {
  test("publishing and viewing go on, and nothing acknowledged is lost", {
    timeout: 30_000,
  }, async () => {
    const { master, replica } = await pair({ direct: true });
    const port = await startSentinel(master.port);
    const sentinel = redisClient(port);
    await eventually("it knows the replica", async () => {
      const replicas = (await sentinel.call("SENTINEL", "REPLICAS", "main")) as string[][];
      return replicas.some(
        (fields) => fields.includes(`${replica.port}`) && fields.includes("slave"),
      );
    });
    const redis = { sentinels: [{ host: "127.0.0.1", port }], name: "main" };
    const options: RedisStoreOptions = { redis, timeoutMs: 500 };
    const history = createHistory();
    const { monitor, store: publishing, say } = publisherOn(undefined, { store: options });
    monitor.on("update", ({ jobId, cursor, event }) => history.published(jobId, cursor, event));
    const viewing = storeOn(undefined, options);
    const node = await startServer({ store: viewing, heartbeatMs: 100 });
    const acknowledged: string[] = [];
    const publish = async (from: number, to: number) => {
      for (const n of range(to - from)) {
        await say({ message: `${from + n}`, metadata: { n: from + n } });
        acknowledged.push(`${from + n}`);
      }
    };
    await say({ status: "running" });
    await publish(0, 10);
    const watchers = [overWebSocket(node.port), overEventStream(node.port)].map((over, n) =>
      startWatcher({ history, viewer: `v${n}`, jobId: "j", over, stubborn: true }),
    );
    await until("they watch", () => watchers.every(({ cursor }) => cursor !== undefined));
    history.indeterminate("j"); // seen, but not acknowledged when the master goes
    const gone = Promise.all([away(publishing), away(viewing)]);
    process.kill(master.pid, signal);
    const during = publish(10, 30);
    await gone;
    await eventually("the replica has its place", async () =>
      (await sentinel.texts("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")).includes(
        `${replica.port}`,
      ),
    );
    await inTime("all is stored", during, 15_000);
    await Promise.all([publishing, viewing].map(there));
    await publish(30, 40);
    await say({ status: "completed" });
    await Promise.all(watchers.map(({ ended }) => ended));
    expect(acknowledged).toEqual(range(40).map(String));
    const job = await node.monitor.get("j");
    if (!job) throw new Error("no job");
    expect(job).toMatchObject({ status: "completed", message: "39", metadata: { n: 39 } });
    history.head("j", job, job);
    history.check();
    expect(watchers.map(({ connections }) => connections)).toEqual([1, 1]);
    await viewing.health();
    expect((await whole(storeOn(replica.port))).job.message).toBe("39");
  });
});
