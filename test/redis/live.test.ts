import type { Announced, Frame, WorkflowMonitor } from "@org/workflow-monitor";
import { createHistory, type History } from "@org/workflow-monitor/testing";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ManualClock, turns } from "../support/clock.js";
import { startFaultProxy } from "../support/fault-proxy.js";
import { overEventPoll, overEventStream } from "../support/http-watchers.js";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { type RedisClient, redisClient } from "../support/redis-client.js";
import { startServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";
import { inProcess, overWebSocket, startWatcher, type Watcher } from "../support/watchers.js";
import {
  append,
  away,
  batchOf,
  changeOf,
  eventually,
  type Publisher,
  publisherOn,
  range,
  storeOn,
  there,
  whole,
} from "./given.js";

let server: RedisServer;
let client: RedisClient;
let prefixes = 0;
const ownPrefix = () => `live${++prefixes}:`;

beforeAll(async () => {
  if (withoutRedis) return;
  server = await startRedis();
});
afterAll(() => server?.close());

const subscribers = async (channel: string): Promise<number> => {
  const [, count] = (await client.call("PUBSUB", "NUMSUB", channel)) as [string, number];
  return count;
};

/** A publisher whose acknowledged events are recorded. */
function recorded(history: History, prefix: string): Publisher {
  const publisher = publisherOn(server.port, { store: { prefix }, drainMs: 2_000 });
  publisher.monitor.on("update", ({ jobId, cursor, event }) =>
    history.published(jobId, cursor, event),
  );
  return publisher;
}

/** A node that serves viewers, over every transport. */
async function startNode(history: History, prefix: string) {
  const store = storeOn(server.port, { prefix });
  const node = await startServer({ store });
  let viewers = 0;
  const ways = [
    overWebSocket(node.port),
    overWebSocket(node.port, "delta"),
    overEventStream(node.port),
    overEventPoll(node.port, 5),
    inProcess(node.monitor),
  ];
  const watch = (): Watcher => {
    const over = ways[viewers++ % ways.length] as (typeof ways)[number];
    const viewer = `${node.port} ${viewers}`;
    return startWatcher({ history, viewer, jobId: "j", over, stubborn: true });
  };
  return { store, node, watch };
}

async function checked(history: History, monitor: WorkflowMonitor, watchers: Watcher[]) {
  await Promise.all(watchers.map(({ ended }) => ended));
  const job = await monitor.get("j");
  if (!job) throw new Error("no job");
  history.head("j", job, job);
  history.check();
}

describe.skipIf(withoutRedis)("the live path", () => {
  test("who joins in a flood of appends misses nothing and gets nothing twice", {
    timeout: 20_000,
  }, async () => {
    const history = createHistory();
    const prefix = ownPrefix();
    const publishers = range(3).map(() => recorded(history, prefix));
    const nodes = [await startNode(history, prefix), await startNode(history, prefix)];
    await publishers[0]?.say({ status: "running" });
    const watchers: Watcher[] = [];
    await Promise.all(
      publishers.map(async ({ say }, who) => {
        for (const n of range(100)) {
          await say({ message: `${who} ${n}` });
          if (n % 20 === who) for (const { watch } of nodes) watchers.push(watch());
        }
      }),
    );
    await publishers[1]?.say({ status: "completed" });
    await checked(history, (publishers[0] as Publisher).monitor, watchers);
    expect(history.summary).toMatchObject({ published: 302, viewers: 30 });
    expect(history.summary.updates).toBeGreaterThan(1_000);
  });

  test("connections that Redis kills in the middle: nothing is missed, and the order is kept", {
    timeout: 30_000,
  }, async () => {
    client = redisClient(server.port);
    const history = createHistory();
    const prefix = ownPrefix();
    const publishers = range(2).map(() => recorded(history, prefix));
    const nodes = [await startNode(history, prefix), await startNode(history, prefix)];
    await publishers[0]?.say({ status: "running" });
    const watchers = range(5).flatMap(() => nodes.map(({ watch }) => watch()));
    for (const { node } of nodes)
      await until("all are there", () => node.monitor.stats().rooms === 1);
    let killed = 0;
    const kill = async (type: "pubsub" | "normal") => {
      killed += await client.number("CLIENT", "KILL", "TYPE", type, "SKIPME", "yes");
      await Promise.all(nodes.map(({ store }) => there(store)));
    };
    await Promise.all(
      publishers.map(async ({ say }, who) => {
        for (const n of range(80)) {
          await say({ message: `${who} ${n}` });
          if (who === 0 && n % 20 === 10) await kill(n % 40 === 10 ? "pubsub" : "normal");
        }
      }),
    );
    await publishers[1]?.say({ status: "completed" });
    await checked(history, (publishers[0] as Publisher).monitor, watchers);
    expect(history.summary.published).toBe(162);
    expect(killed).toBeGreaterThanOrEqual(12);
    for (const { connections, viewer } of watchers)
      if (!viewer.endsWith("4") && !viewer.endsWith("9")) expect(connections).toBe(1); // long-polls come again
  });

  test("an append that is not announced is found by the next one that is", async () => {
    const { monitor, appended, swallowed } = await silentlyWatched();
    const frames = collect(monitor);
    await until("it has joined", () => frames.length === 1);
    await swallowed("not announced");
    await appended("announced");
    await until("it knows both", () => messagesOf(frames).includes("announced"));
    expect(messagesOf(frames)).toEqual(["not announced", "announced"]);
  });

  test("an append that is not announced is found by the check of the position, within 40 s", async () => {
    const { monitor, clock, swallowed } = await silentlyWatched();
    const frames = collect(monitor);
    await until("it has joined", () => frames.length === 1);
    await swallowed("not announced");
    clock.advance(24_000);
    await turns();
    expect(messagesOf(frames)).toEqual([]);
    clock.advance(16_000);
    await until("it knows it", () => messagesOf(frames).length > 0);
    expect(messagesOf(frames)).toEqual(["not announced"]);
    // And so it goes on.
    await swallowed("nor this");
    clock.advance(40_000);
    await until("it knows it", () => messagesOf(frames).length > 1);
    expect(messagesOf(frames)).toEqual(["not announced", "nor this"]);
  });

  test("a node hears nothing of jobs that it does not watch", async () => {
    client = redisClient(server.port);
    const prefix = ownPrefix();
    const publisher = publisherOn(server.port, { store: { prefix } });
    const proxy = await startFaultProxy(server.port);
    // It pings as often as its timeout is long.
    const store = storeOn(proxy.port, { prefix, timeoutMs: 600_000 });
    const node = await startServer({ store });
    await publisher.say({ jobId: "watched", status: "running" });
    const viewer = await node.watch("watched");
    await viewer.expect("snapshot");
    const received = () =>
      proxy.connections.reduce((bytes, { passed }) => bytes + passed.toClient, 0);
    const { length } = proxy.connections;
    expect(length).toBe(2);
    const before = received();
    for (const n of range(200)) await publisher.say({ jobId: "unwatched", message: `${n}` });
    expect(received()).toBe(before);
    expect(await subscribers(`${prefix}{unwatched}`)).toBe(0);
    await publisher.say({ jobId: "watched", message: "heard" });
    expect((await viewer.expect("update")).job?.message).toBe("heard");
    expect(received() - before).toBeLessThan(1_000);
  });
});

/** A job and a monitor with a clock that stands still; appends are announced or not. */
async function silentlyWatched() {
  client = redisClient(server.port);
  const prefix = ownPrefix();
  const clock = new ManualClock();
  const store = storeOn(server.port, { prefix });
  const node = await startServer({ store, clock });
  onTestFinished(async () => {
    // It closes in time that has to pass.
    const passing = setInterval(() => clock.advance(1_000), 10);
    await node.monitor.close();
    clearInterval(passing);
  });
  // The same log under another name: what is appended there is announced to nobody.
  const other = storeOn(server.port, { prefix: `other-${prefix}` });
  const copy = async (from: string, to: string) => {
    for (const key of ["{j}:head", "{j}:log"])
      expect(await client.number("COPY", `${from}${key}`, `${to}${key}`, "REPLACE")).toBe(1);
  };
  await append(store, null, batchOf("j", 1, { status: "running" }));
  const add = async (to: typeof store, message: string) => {
    const { cursor, job } = await whole(to);
    await append(to, cursor, changeOf(job, { ...job, message }, message));
  };
  return {
    monitor: node.monitor,
    clock,
    appended: (message: string) => add(store, message),
    async swallowed(message: string) {
      await copy(prefix, `other-${prefix}`);
      await add(other, message);
      await copy(`other-${prefix}`, prefix);
    },
  };
}

/** What a viewer in the process gets, until the test is over. */
function collect(monitor: WorkflowMonitor): Frame[] {
  const frames: Frame[] = [];
  const over = new AbortController();
  onTestFinished(() => over.abort());
  void (async () => {
    for await (const frame of monitor.watch("j", { signal: over.signal })) frames.push(frame);
  })();
  return frames;
}

/** The messages of the events that came after the first frame. */
const messagesOf = (frames: Frame[]): unknown[] =>
  frames.slice(1).flatMap((frame) => {
    const { event, events = event ? [event] : [] } = frame as {
      event?: { message: string };
      events?: { message: string }[];
    };
    return events.map(({ message }) => message);
  });

describe.skipIf(withoutRedis)("following", () => {
  test("subscribes once a job, and unsubscribes with the last that goes", async () => {
    client = redisClient(server.port);
    const prefix = ownPrefix();
    const channel = `${prefix}{j}`;
    const store = storeOn(server.port, { prefix });
    const one = await store.follow("j", () => {});
    const other = await store.follow("j", () => {});
    expect(await subscribers(channel)).toBe(1);
    one();
    one();
    await store.health(); // what was sent before is done
    expect(await subscribers(channel)).toBe(1);
    other();
    await eventually("it is unsubscribed", async () => (await subscribers(channel)) === 0);
  });

  test("a room follows while it is, and not longer", async () => {
    client = redisClient(server.port);
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const node = await startServer({ store, lingerMs: 0 });
    await node.monitor.publish({ type: "job", jobId: "j", status: "running" });
    const viewers = await Promise.all([node.watch("j"), node.watch("j")]);
    for (const viewer of viewers) await viewer.expect("snapshot");
    expect(await subscribers(`${prefix}{j}`)).toBe(1);
    for (const { socket } of viewers) socket.close();
    await eventually("nobody follows", async () => (await subscribers(`${prefix}{j}`)) === 0);
    const again = await node.watch("j");
    await again.expect("snapshot");
    await node.monitor.publish({ type: "job", jobId: "j", message: "heard" });
    expect((await again.expect("update")).job?.message).toBe("heard");
  });

  test("and stopping in one turn, in any order: who follows at last hears, who does not costs nothing", async () => {
    client = redisClient(server.port);
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const publisher = storeOn(server.port, { prefix });
    for (const round of range(60)) {
      const jobId = `job ${round}`;
      const heard: Announced[] = [];
      const following: Promise<() => void>[] = [];
      for (const step of range(6)) {
        following.push(store.follow(jobId, (note) => heard.push(note)));
        if ((round >> (step % 6)) & 1) await following.at(-1);
        if (step < 5) void following.at(-1)?.then((stop) => stop());
        if ((round * 7 + step) % 3 === 0) await new Promise(setImmediate);
      }
      const stops = await Promise.all(following);
      await append(publisher, null, batchOf(jobId, 1));
      await until("it is heard", () => heard.length > 0);
      expect(heard).toHaveLength(1);
      stops.at(-1)?.();
    }
    await eventually("nobody follows", async () => {
      const channels = await client.texts("PUBSUB", "CHANNELS", `${prefix}*`);
      return channels.length === 0;
    });
  });

  test("5,000 jobs comes back with all of them after the connection was killed", {
    timeout: 20_000,
  }, async () => {
    client = redisClient(server.port);
    const prefix = ownPrefix();
    const store = storeOn(server.port, { prefix });
    const publisher = storeOn(server.port, { prefix });
    const heard = new Set<string>();
    const stops = await Promise.all(
      range(5_000).map((n) => store.follow(`${n}`, () => heard.add(`${n}`))),
    );
    const gone = away(store);
    await client.call("CLIENT", "KILL", "TYPE", "pubsub");
    await gone;
    await there(store);
    // Live from the first moment on that it says that it is there.
    for (const n of [0, 1, 999, 1_000, 2_500, 4_999])
      await append(publisher, null, batchOf(`${n}`, 1));
    await until("all are heard", () => heard.size === 6);
    const channels = await client.texts("PUBSUB", "CHANNELS", `${prefix}*`);
    expect(channels).toHaveLength(5_000);
    for (const stop of stops) stop();
    await eventually("nobody follows", async () => {
      return (await client.texts("PUBSUB", "CHANNELS", `${prefix}*`)).length === 0;
    });
  });

  test("that ends while everything is subscribed again is not begun anew", {
    timeout: 20_000,
  }, async () => {
    client = redisClient(server.port);
    const prefix = ownPrefix();
    const proxy = await startFaultProxy(server.port);
    const store = storeOn(proxy.port, { prefix });
    const stops = await Promise.all(range(3_000).map((n) => store.follow(`${n}`, () => {})));
    const channels = () => client.texts("PUBSUB", "CHANNELS", `${prefix}*`);
    expect(await channels()).toHaveLength(3_000);
    proxy.latency(20, "toClient");
    const gone = away(store);
    proxy.cut();
    await gone;
    await eventually("some are subscribed", async () => (await channels()).length > 0);
    for (const stop of stops) stop();
    await there(store);
    await store.health();
    await eventually("nobody follows", async () => (await channels()).length === 0);
  });

  test("what was followed when Redis was restarted is followed again", async () => {
    const own = await startRedis();
    onTestFinished(() => own.close());
    const store = storeOn(own.port);
    const publisher = storeOn(own.port);
    const heard: Announced[] = [];
    await store.follow("j", (note) => heard.push(note));
    const gone = Promise.all([away(store), away(publisher)]);
    await own.stop();
    await gone;
    await own.start({ data: "lost" });
    await Promise.all([there(store), there(publisher)]);
    const cursor = await append(publisher, null, batchOf("j", 1));
    await until("it is heard", () => heard.length > 0);
    expect(heard[0]?.cursor).toEqual(cursor);
  });

  test("rejects while Redis is away, and leaves nothing behind", async () => {
    client = redisClient(server.port);
    const prefix = ownPrefix();
    const proxy = await startFaultProxy(server.port);
    const store = storeOn(proxy.port, { prefix, timeoutMs: 250 });
    await there(store);
    proxy.refuse();
    proxy.cut();
    await away(store);
    await expect(store.follow("j", () => {})).rejects.toMatchObject({ code: "unavailable" });
    proxy.restore();
    await inTime("it is back", there(store));
    expect(await subscribers(`${prefix}{j}`)).toBe(0);
    const heard: Announced[] = [];
    await store.follow("j", (note) => heard.push(note));
    await append(store, null, batchOf("j", 1));
    await until("it is heard", () => heard.length === 1);
  });
});
