import { createHistory } from "@org/workflow-monitor/testing";
import type { ClientTransport } from "@org/workflow-monitor-client";
import { expect, test, vi } from "vitest";
import { FIRST_CLIMB_MS } from "../../packages/client/src/line.js";
import { ANSWER_MS } from "../../packages/client/src/link.js";
import { record, startClient, testHost } from "../support/client.js";
import { observeWatch } from "../support/client-history.js";
import { ManualClock } from "../support/clock.js";
import { range } from "../support/frames.js";
import { startServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";
import { startWebProxy, type WebProxy } from "../support/web-proxy.js";

// Many connections, one after another: on a busy machine they take their time.
vi.setConfig({ testTimeout: 20_000 });

/** Where chance is 0. */
const CLIMB_MS = FIRST_CLIMB_MS / 2;

/** A server behind a web proxy, a client with a clock of the test, and a watch of its job `a`. */
async function startLadder(faults: Partial<Pick<WebProxy, "upgrades" | "streams">>) {
  const { monitor, port } = await startServer();
  const proxy = await startWebProxy(port);
  Object.assign(proxy, faults);
  const clock = new ManualClock();
  const host = testHost({
    now: clock.now,
    uptime: clock.monotonic,
    setTimeout: clock.setTimeout,
    random: () => 0,
  });
  const history = createHistory();
  let count = 0;
  const publish = async (event: { message: string } | { status: "running" | "completed" }) => {
    const full = { type: "job", jobId: "a", ...event } as const;
    history.published("a", await monitor.publish(full), full);
  };
  await publish({ status: "running" });
  const client = startClient(proxy.port, {}, host);
  const watch = client.watch("a");
  const seen = record(watch);
  observeWatch(history, "viewer", watch);
  /** Waits, while a little time passes: pauses and tries that wait for nothing. */
  const passing = (what: string, holds: () => boolean) =>
    until(what, () => {
      clock.advance(5);
      return holds();
    });
  const on = (transport: ClientTransport) =>
    passing(`it is live over ${transport}`, () => {
      const { state } = watch.connection;
      const live = state === (transport === "poll" ? "polling" : "live");
      return live && watch.connection.transport === transport;
    });
  return {
    clock,
    monitor,
    proxy,
    seen,
    watch,
    on,
    passing,
    /** The proxy stands in the way of one more; time passes until it is given up. */
    async blocked(times: number) {
      await passing(`${times} were blocked`, () => proxy.blocked >= times);
      clock.advance(ANSWER_MS);
    },
    /** The next event arrives. */
    async event() {
      count += 1;
      await publish({ message: `${count}` });
      await passing("the event comes", () => watch.snapshot?.message === `${count}`);
    },
    /** The job ends: everything was seen, once. */
    async finish() {
      await publish({ status: "completed" });
      await passing("it is over", () => watch.connection.state === "ended");
      const job = await inTime("the end", watch.finished());
      history.head("a", job, job);
      history.check();
      expect(seen.revisions).toEqual(range(2, job.revision));
      expect(seen).toMatchObject({ gaps: [1], done: 1 });
      await until("nothing is left behind", () => {
        const { ws, sse, longPoll } = monitor.stats().viewers;
        return ws + sse + longPoll + clock.timers === 0;
      });
    },
  };
}

test.each(["refuse", "ignore", "swallow"] as const)(
  "where a proxy's way with WebSockets is to %s them, it is event streams, until the way is free",
  async (upgrades) => {
    const { blocked, clock, event, finish, on, proxy, watch } = await startLadder({ upgrades });
    if (upgrades !== "refuse") await blocked(1);
    await on("sse");
    await event();
    clock.advance(CLIMB_MS); // in vain
    await event();
    if (upgrades !== "refuse") await blocked(2);
    await event();
    expect(watch.connection).toMatchObject({ state: "live", transport: "sse", cause: null });
    await on("sse");
    proxy.upgrades = "pass";
    clock.advance(2 * CLIMB_MS);
    await on("ws");
    await event();
    await finish();
  },
);

test.each(["hold", "hold body"] as const)(
  "where a proxy also keeps back event streams (%s), it is polls, until the way is free",
  async (streams) => {
    const { blocked, clock, event, finish, on, proxy } = await startLadder({
      upgrades: "refuse",
      streams,
    });
    await blocked(2);
    await on("poll");
    await event();
    await event();
    proxy.streams = "pass";
    clock.advance(CLIMB_MS);
    await on("sse");
    await event();
    proxy.upgrades = "pass";
    clock.advance(CLIMB_MS);
    await on("ws");
    await event();
    await finish();
  },
);

test("from polls it climbs to WebSocket at once, when all is well again", async () => {
  const { blocked, clock, event, finish, on, proxy, seen } = await startLadder({
    upgrades: "ignore",
    streams: "hold",
  });
  await blocked(1);
  await blocked(2);
  await on("poll");
  await event();
  proxy.upgrades = "pass";
  clock.advance(CLIMB_MS);
  await on("ws");
  await event();
  await finish();
  // Polls go on while it climbs: nobody sees that it was tried.
  expect(seen.connections).toEqual(["connecting", "polling", "live", "ended"]);
});

test("a WebSocket that worked, and is blocked when it comes back, is event streams", async () => {
  const { event, finish, on, proxy, clock } = await startLadder({});
  await on("ws");
  await event();
  proxy.upgrades = "refuse";
  proxy.cut();
  await on("sse");
  await event();
  proxy.upgrades = "pass";
  clock.advance(CLIMB_MS);
  await on("ws");
  await event();
  await finish();
});

test("what happens while it climbs is told once, though it comes over two links", async () => {
  const { clock, finish, on, passing, proxy, seen, watch, monitor } = await startLadder({
    upgrades: "refuse",
  });
  await on("sse");
  proxy.upgrades = "pass";
  clock.advance(CLIMB_MS);
  for (const n of range(1, 200)) {
    void monitor.publish({ type: "job", jobId: "a", message: `burst ${n}` });
  }
  await passing("all came", () => watch.snapshot?.message === "burst 200");
  expect(seen.events).toHaveLength(200);
  await on("ws");
  await finish();
});
