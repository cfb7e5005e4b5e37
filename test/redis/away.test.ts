import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import type { EventStream } from "../support/event-stream.js";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.js";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { redisCommand } from "../support/redis-command.js";
import { startServer } from "../support/server.js";
import type { Viewer } from "../support/viewer.js";
import { inTime, until } from "../support/wait.js";
import { away, eventually, messages, publisherOn, range, storeOn, there, whole } from "./given.js";

async function redis(): Promise<RedisServer> {
  const server = await startRedis({ persist: true });
  onTestFinished(() => server.close());
  return server;
}

interface Way {
  way: string;
  leave(proxy: FaultProxy, server: RedisServer): Promise<void> | void;
  comeBack(proxy: FaultProxy, server: RedisServer): Promise<void> | void;
}

const WAYS: Way[] = [
  {
    way: "stopped",
    leave: (_, server) => server.stop(),
    comeBack: (_, server) => server.start(),
  },
  {
    way: "cut off",
    leave(proxy) {
      proxy.refuse();
      proxy.reset();
    },
    comeBack: (proxy) => proxy.restore(),
  },
  {
    way: "in a black hole",
    leave: (proxy) => proxy.blackHole(),
    comeBack(proxy) {
      proxy.reset(); // what was swallowed does not come back
      proxy.restore();
    },
  },
  {
    way: "paused",
    leave: (_, { pid }) => void process.kill(pid, "SIGSTOP"),
    comeBack: (_, { pid }) => void process.kill(pid, "SIGCONT"),
  },
];

/** The last heartbeat that came says so. */
const isStale = ({ frames }: Viewer | EventStream): boolean => {
  const beat = frames.findLast(({ type }) => type === "heartbeat");
  return beat !== undefined && "stale" in beat && beat.stale === true;
};

describe.skipIf(withoutRedis).each(WAYS)("[D12] Redis is $way", ({ leave, comeBack }) => {
  test("viewers stay and are told, publishes wait, everything goes on by itself", {
    timeout: 20_000,
  }, async () => {
    const server = await redis();
    const proxy = await startFaultProxy(server.port);
    const store = storeOn(proxy.port, { timeoutMs: 250 });
    await there(store);
    const node = await startServer({ store, heartbeatMs: 100, limits: { queuedEvents: 5 } });
    const { monitor } = node;
    await monitor.publish({ type: "job", jobId: "j", status: "running" });
    await monitor.publish({ type: "job", jobId: "unwatched", status: "running" });
    const viewer = await node.watch("j");
    const stream = await node.stream("j");
    for (const each of [viewer, stream]) await each.expect("snapshot");
    const fresh = await node.poll("j");
    expect(fresh.headers.stale).toBeUndefined();
    await store.health();

    await leave(proxy, server);
    await away(store);
    await expect(store.health()).rejects.toMatchObject({ code: "unavailable" });
    for (const each of [viewer, stream]) await until("it is stale", () => isStale(each));
    const stale = await node.poll("j");
    expect(stale).toMatchObject({ status: 200, text: fresh.text });
    expect(stale.headers).toMatchObject({ stale: "true", etag: fresh.headers.etag });
    const same = await node.poll("j", { "if-none-match": fresh.headers.etag });
    expect(same.status).toBe(304);
    const [epoch] = `${fresh.headers.etag}`.replace(/^.*"(?=[a-z0-9]{12}\.)/, "").split(".");
    const ahead = `${fresh.headers.etag}`.replace(`${epoch}.1`, `${epoch}.9`);
    expect(ahead).not.toBe(fresh.headers.etag);
    const behind = await node.poll("j", { "if-none-match": ahead });
    expect(behind.status).toBe(503);
    const unwatched = await node.poll("unwatched");
    expect(unwatched.status).toBe(503);
    expect(Number(unwatched.headers["retry-after"])).toBeGreaterThan(0);

    const waiting = range(5).map((n) =>
      monitor.publish({ type: "job", jobId: "j", message: `${n}` }),
    );
    await expect(
      monitor.publish({ type: "job", jobId: "j", message: "too many" }),
    ).rejects.toMatchObject({ code: "overloaded" });
    expect(stream.frames.filter(({ type }) => type !== "heartbeat")).toHaveLength(1);

    await comeBack(proxy, server);
    const cursors = await Promise.all(waiting);
    await inTime("it is back", there(store));
    expect(new Set(cursors.map(({ epoch }) => epoch)).size).toBe(1);
    for (const each of [viewer, stream]) {
      await each.readUntil(
        (frame) => "job" in frame && (frame.job as { message: string }).message === "4",
      );
      await until("it is not stale any more", () => !isStale(each));
    }
    await monitor.publish({ type: "job", jobId: "j", message: "on" });
    for (const each of [viewer, stream])
      await each.readUntil(
        (frame) => "job" in frame && (frame.job as { message: string }).message === "on",
      );
    const { events } = await whole(store);
    expect(messages(events).filter((text) => text !== undefined)).toEqual([
      "0",
      "1",
      "2",
      "3",
      "4",
      "on",
    ]);
    await store.health();
    const back = await node.poll("j");
    expect(back.status).toBe(200);
    expect(back.headers.stale).toBeUndefined();
    expect((await node.poll("unwatched")).status).toBe(200);
  });

  test("a monitor and a store close all the same, and what waits is told", async () => {
    const server = await redis();
    const proxy = await startFaultProxy(server.port);
    const { store, monitor, say } = publisherOn(proxy.port, { store: { timeoutMs: 60_000 } });
    await say({ status: "running" });
    await leave(proxy, server);
    const waiting = say({ message: "waits" });
    const health = store.health().catch((thrown: unknown) => thrown);
    await inTime("monitor.close()", monitor.close(), 3_000);
    await inTime("store.close()", store.close(), 1_000);
    await expect(waiting).rejects.toMatchObject({ code: "closed" });
    expect(await health).toMatchObject({ code: expect.stringMatching(/closed|unavailable/) });
    await expect(store.health()).rejects.toMatchObject({ code: "closed" });
    await expect(store.list({ limit: 1 })).rejects.toMatchObject({ code: "closed" });
    await expect(store.follow("j", () => {})).rejects.toMatchObject({ code: "closed" });
    await comeBack(proxy, server);
  });
});

describe.skipIf(withoutRedis)("[D12] a store that is made while Redis is down", () => {
  test("starts when it comes", async () => {
    const server = await redis();
    await server.stop();
    const { store, say } = publisherOn(server.port);
    const waiting = say({ status: "running" });
    const told: boolean[] = [];
    onTestFinished(store.connection((now) => told.push(now)));
    expect(told).toEqual([false]);
    await expect(storeOn(server.port, { timeoutMs: 50 }).read("j")).rejects.toMatchObject({
      code: "unavailable",
    });
    await server.start();
    expect((await inTime("the publish", waiting)).revision).toBe(1);
    await store.health();
    expect(told).toEqual([false, true]);
  });

  test("answers what was asked before it came", async () => {
    const server = await redis();
    await server.stop();
    const store = storeOn(server.port);
    const read = store.read("j");
    const follow = store.follow("j", () => {});
    await server.start();
    expect(await inTime("the read", Promise.resolve(read))).toBeUndefined();
    await inTime("the follow", follow);
  });
});

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Runs a program that has `store` and `monitor`; killed at the end of the test. */
function startProgram(port: number, body: string) {
  const code = `
    import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
    import { redisStore } from "@org/workflow-monitor-redis";
    const store = redisStore({ url: "redis://127.0.0.1:${port}", timeoutMs: 60_000 });
    const monitor = createWorkflowMonitor({ authorize: allowAll, store, drainMs: 100 });
    ${body}`;
  const args = ["--import", "tsx", "--input-type=module", "-e", code];
  const child = spawn(process.execPath, args, { cwd: root });
  onTestFinished(() => void child.kill("SIGKILL"));
  const output = { text: "" };
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output.text += text;
    });
  const exited = once(child, "close").then(([code]) => code as number | null);
  return { output, exited };
}

describe.skipIf(withoutRedis)("a process", () => {
  test("exits by itself after it has closed both, while Redis is paused; nothing was printed", {
    timeout: 20_000,
  }, async () => {
    const server = await redis();
    const { exited, output } = startProgram(
      server.port,
      `await monitor.publish({ type: "job", jobId: "j", status: "running" });
      await store.follow("j", () => {});
      process.kill(${server.pid}, "SIGSTOP");
      monitor.publish({ type: "job", jobId: "j", message: "waits" });
      await new Promise(setImmediate);
      await monitor.close();
      await store.close();`,
    );
    expect(await inTime("its exit", exited, 15_000)).toBe(0);
    expect(output.text).toBe("");
    process.kill(server.pid, "SIGCONT");
  });

  test("exits by itself when Redis never came; nothing was printed", {
    timeout: 20_000,
  }, async () => {
    const server = await redis();
    await server.stop();
    const { exited, output } = startProgram(
      server.port,
      `monitor.publish({ type: "job", jobId: "j", status: "running" });
      store.connection((there) => there && console.log("there"));
      for (let n = 0; n < 20; n++) await new Promise(setImmediate);
      await monitor.close();
      await store.close();`,
    );
    expect(await inTime("its exit", exited, 15_000)).toBe(0);
    expect(output.text).toBe("");
  });

  test("exits by itself after it has closed both, while Redis is there", {
    timeout: 20_000,
  }, async () => {
    const server = await redis();
    const { exited, output } = startProgram(
      server.port,
      `await monitor.publish({ type: "job", jobId: "j", status: "completed" });
      console.log((await monitor.get("j")).status);
      await monitor.close();
      await store.close();`,
    );
    expect(await inTime("its exit", exited, 15_000)).toBe(0);
    expect(output.text).toBe("completed\n");
    await eventually(
      "its word is kept",
      async () => (await storeOn(server.port).read("j")) !== undefined,
    );
  });
});

test.skipIf(withoutRedis)(
  "[D12] who asks in vain hears it after everybody else: what he is shown instead is stale",
  async () => {
    const server = await redis();
    const store = storeOn(server.port);
    await there(store);
    let isThere = true;
    store.connection((now) => {
      isThere = now;
    });
    await redisCommand(server.port, "CLIENT", "KILL", "TYPE", "normal");
    // Its goodbye has come, and the connection is not closed yet: one turn of the event loop.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    await new Promise(setImmediate);
    await expect(store.read("j")).rejects.toMatchObject({ code: "unavailable" });
    expect(isThere).toBe(false);
    await inTime("it is back", there(store));
  },
);
