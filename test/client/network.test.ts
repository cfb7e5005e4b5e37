import { createHistory } from "@org/workflow-monitor/testing";
import type { ClientTransport } from "@org/workflow-monitor-client";
import { describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { CHECK_MS } from "../../packages/client/src/link.js";
import { failure, record, startClient, testHost } from "../support/client.js";
import { observeWatch } from "../support/client-history.js";
import { ManualClock, turns } from "../support/clock.js";
import { startFaultProxy } from "../support/fault-proxy.js";
import { range } from "../support/frames.js";
import { type ServerOptions, startServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";

// Many connections, one after another: on a busy machine they take their time.
vi.setConfig({ testTimeout: 20_000 });

const TRANSPORTS = ["ws", "sse", "poll"] as const;
const HEARTBEAT_MS = 200;

/** A host whose time stands still, and whose chance is 0. */
function stillHost() {
  const clock = new ManualClock();
  const { now, monotonic: uptime, setTimeout } = clock;
  return { clock, host: testHost({ now, uptime, setTimeout, random: () => 0 }) };
}

/** Waits, while time passes in steps; without a step, what is due at once happens. */
const passingOn =
  (clock: ManualClock) =>
  (what: string, holds: () => boolean, stepMs = 0) =>
    until(what, () => {
      clock.advance(stepMs);
      return holds();
    });

/** A server with a running job `a`, a proxy before it, and a client whose time stands still. */
async function startStill(transports: readonly ClientTransport[], options: ServerOptions = {}) {
  const server = await startServer(options);
  const publish = (jobId: string, message: string) =>
    server.monitor.publish({ type: "job", jobId, message });
  const complete = (jobId: string) =>
    server.monitor.publish({ type: "job", jobId, status: "completed" });
  await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
  const proxy = await startFaultProxy(server.port);
  const { clock, host } = stillHost();
  const client = startClient(proxy.port, { transports }, host);
  const passing = passingOn(clock);
  /** The one watch of the test is connected, also one that polls. */
  const connected = () =>
    passing(
      "it is connected",
      () => {
        const { ws, sse, longPoll } = server.monitor.stats().viewers;
        return ws + sse + longPoll === 1;
      },
      transports[0] === "poll" ? 100 : 0,
    );
  return { server, proxy, clock, host, client, publish, complete, passing, connected };
}

describe.each(["ws", "sse"] as const)("a black hole over %s", (transport) => {
  test.each([
    ["", 0],
    ["[S3] [R19] although the wall clock is set an hour back: ", -3_600_000],
    ["[S3] [R19] although the wall clock is set an hour forward: ", 3_600_000],
  ])("%sis found after two silent heartbeats, and nothing was missed", async (_, step) => {
    const given = await startStill([transport], { heartbeatMs: HEARTBEAT_MS });
    const { client, clock, complete, passing, proxy, publish, server } = given;
    const history = createHistory();
    const watch = client.watch("a");
    const seen = record(watch);
    observeWatch(history, "viewer", watch);
    await until("it is live", () => watch.connection.state === "live");
    for (const connection of proxy.connections) connection.blackHole();
    for (const n of range(1, 5)) await publish("a", `${n}`);
    await turns();
    clock.step(step);
    clock.advance(2 * HEARTBEAT_MS - 1);
    expect(watch.connection.state).toBe("live");
    clock.advance(1);
    expect(watch.connection).toMatchObject({
      state: "reconnecting",
      cause: { code: "unreachable", retryable: true },
    });
    await passing("it is live again", () => watch.connection.state === "live");
    await complete("a");
    const job = await inTime("the end", watch.finished());
    history.head("a", job, job);
    history.check();
    expect(job).toEqual(await server.monitor.get("a"));
    expect(seen.revisions).toEqual(range(2, 7));
    expect(seen).toMatchObject({ done: 1, gaps: [1] });
  });
});

test("a last frame that was swallowed is read again, also if nothing better gets through", async () => {
  const server = await startServer({ heartbeatMs: HEARTBEAT_MS });
  await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
  const proxy = await startFaultProxy(server.port);
  const { clock, host } = stillHost();
  let sockets = 0;
  class OnlyOnce extends WebSocket {
    constructor(url: string, protocols: string[]) {
      sockets += 1;
      super(sockets === 1 ? url : "ws://127.0.0.1:1", protocols);
    }
  }
  const options = { transports: ["ws"] as const, WebSocket: OnlyOnce };
  const watch = startClient(proxy.port, options, host).watch("a");
  const seen = record(watch);
  await until("it is live", () => watch.connection.state === "live");
  for (const connection of proxy.connections) connection.blackHole("toClient");
  await server.monitor.publish({ type: "job", jobId: "a", message: "2" });
  await server.monitor.publish({ type: "job", jobId: "a", status: "completed" });
  clock.advance(2 * HEARTBEAT_MS);
  await inTime("the end", watch.finished());
  expect(seen).toMatchObject({ revisions: [2, 3], done: 1, gaps: [1] });
});

test("what is read again does not stand for a link: a job that was refused is asked for again", async () => {
  const server = await startServer({
    heartbeatMs: HEARTBEAT_MS,
    limits: { jobsPerConnection: 1, subscribesPerSecond: 100 },
  });
  for (const jobId of ["a", "b"]) {
    await server.monitor.publish({ type: "job", jobId, status: "running" });
  }
  const proxy = await startFaultProxy(server.port);
  const { clock, host } = stillHost();
  const reads: (() => void)[] = [];
  const fetchLate = async (...[url, init]: Parameters<typeof fetch>) => {
    await new Promise<void>((resolve) => reads.push(resolve));
    return fetch(url, init);
  };
  const client = startClient(
    proxy.port,
    { transports: ["ws"], fetch: fetchLate as typeof fetch },
    host,
  );
  const [a, b] = [client.watch("a"), client.watch("b")];
  const passing = passingOn(clock);
  await until("one is live", () => a.connection.state === "live");
  await until("one is refused", () => b.connection.state === "reconnecting");
  for (const connection of proxy.connections) connection.blackHole();
  clock.advance(10_000);
  await passing("one is live again", () => a.connection.state === "live");
  await until("one is refused again", () => b.connection.cause?.code === "too_many_subscriptions");
  for (const read of reads) read();
  await passing("what was read is shown", () => b.snapshot !== null);
  expect(b.connection).toMatchObject({
    state: "reconnecting",
    cause: { code: "too_many_subscriptions" },
  });
  await server.monitor.publish({ type: "job", jobId: "a", status: "completed" });
  await inTime("the end of a", a.finished());
  await server.monitor.publish({ type: "job", jobId: "b", status: "completed" });
  let over = false;
  void b.finished().then(() => {
    over = true;
  });
  await passing("the end of b", () => over, 100);
});

describe.each(TRANSPORTS)("over %s", (transport) => {
  test("no network is told, and its return is used at once", async () => {
    const given = await startStill([transport]);
    const { client, complete, connected, host, passing, proxy, publish } = given;
    host.random = () => 0.9; // whoever waits, waits for ever: time stands still
    const watch = client.watch("a");
    const seen = record(watch);
    const isUp = () => ["live", "polling"].includes(watch.connection.state);
    await until("it is up", isUp);
    await connected();
    proxy.refuse();
    host.network("offline");
    proxy.reset();
    await until("it is offline", () => watch.connection.state === "offline");
    await publish("a", "2");
    proxy.restore();
    host.network("online");
    await until("it is up again", isUp);
    await until("the event has come", () => watch.snapshot?.message === "2");
    await complete("a");
    await passing("it is over", () => watch.connection.state === "ended", 10);
    expect(seen).toMatchObject({ revisions: [2, 3], done: 1, gaps: [1] });
  });

  test("a cursor is where a watch begins", async () => {
    const { client, complete, passing, publish } = await startStill([transport]);
    const second = await publish("a", "2");
    await publish("a", "3");
    const watch = client.watch("a", { after: `${second.epoch}.${second.revision}` });
    const seen = record(watch);
    await until("it is shown", () => watch.snapshot !== null);
    expect(seen).toMatchObject({ revisions: [3], gaps: [] });
    await complete("a");
    await passing("it is over", () => watch.connection.state === "ended", 100);
    expect(seen).toMatchObject({ revisions: [3, 4], gaps: [], done: 1 });
  });

  test("after the cursor of the end there is only the end", async () => {
    const { client, complete, passing } = await startStill([transport]);
    const last = await complete("a");
    const watch = client.watch("a", { after: `${last.epoch}.${last.revision}` });
    const seen = record(watch);
    await passing("it is over", () => watch.connection.state === "ended");
    expect(await watch.finished()).toMatchObject({ status: "completed", revision: 2 });
    expect(seen).toMatchObject({ revisions: [], gaps: [], done: 1 });
  });

  test("a cursor of another log, or none at all, is like none", async () => {
    const { client, clock, publish } = await startStill([transport]);
    await publish("a", "2");
    for (const after of ["000000000000.1", "garbage", ""]) {
      const watch = client.watch("a", { after });
      const seen = record(watch);
      await until("it is shown", () => watch.snapshot !== null);
      expect(seen).toMatchObject({ revisions: [], gaps: [2] });
      watch.close();
      clock.advance(0);
    }
  });

  test("a job that nobody knows yet may still come", async () => {
    const { client, clock, complete, passing, publish } = await startStill([transport]);
    const watch = client.watch("later");
    const seen = record(watch);
    await until("it is refused", () => watch.connection.cause?.code === "unknown_job");
    expect(watch.connection).toMatchObject({
      state: "reconnecting",
      retryAt: expect.any(Number),
    });
    clock.advance(9_000);
    await publish("later", "1");
    await passing("it is shown", () => watch.snapshot !== null, 10);
    await complete("later");
    await passing("it is over", () => watch.connection.state === "ended", 10);
    expect(seen).toMatchObject({ revisions: [2], gaps: [1], done: 1 });
  });

  test.each([
    ["", 0],
    ["[S3] [R19] when the wall clock is set an hour back: ", -3_600_000],
    ["[S3] [R19] when the wall clock is set an hour forward: ", 3_600_000],
  ])("%sbut not for ever", async (_, step) => {
    const { client, clock, passing } = await startStill([transport]);
    const watch = client.watch("never");
    await until("it is refused", () => watch.connection.cause?.code === "unknown_job");
    clock.step(step);
    await turns(20);
    expect(watch.connection.state).not.toBe("failed");
    clock.advance(15_000);
    await passing("it is given up", () => watch.connection.state === "failed");
    expect(await failure(watch)).toMatchObject({ code: "unknown_job", jobId: "never" });
  });

  test("a job that began anew before its end was told goes on", async () => {
    const given = await startStill([transport]);
    const { client, complete, connected, passing, proxy, server } = given;
    const watch = client.watch("a");
    const seen = record(watch);
    await until("it is shown", () => watch.snapshot !== null);
    await connected();
    proxy.refuse();
    proxy.reset();
    await until("it is lost", () => watch.connection.cause !== null);
    await complete("a");
    await server.monitor.publish({ type: "job", jobId: "a", run: 2, status: "running" });
    proxy.restore();
    await passing("it is shown", () => watch.snapshot?.run === 2, 100);
    expect(seen).toMatchObject({ done: 0, gaps: [1], revisions: [2, 3] });
    await complete("a");
    await passing("it is over", () => watch.connection.state === "ended", 100);
    expect(seen).toMatchObject({ done: 1, gaps: [1], revisions: [2, 3, 4] });
  });

  test("a job that is over and begins anew is another watch", async () => {
    const { client, complete, passing, server } = await startStill([transport]);
    const first = client.watch("a");
    await until("it is shown", () => first.snapshot !== null);
    await complete("a");
    await passing("it is over", () => first.connection.state === "ended", 100);
    await server.monitor.publish({ type: "job", jobId: "a", run: 2, status: "running" });
    const second = client.watch("a");
    const seen = record(second);
    await until("it is shown", () => second.snapshot !== null);
    expect(first.snapshot).toMatchObject({ run: 1, done: true });
    expect(second.snapshot).toMatchObject({ run: 2, done: false });
    expect(seen).toMatchObject({ gaps: [3] });
  });
});

test("a socket that is dead is found in five seconds by who comes back to the page", async () => {
  const { client, clock, complete, host, passing, proxy, publish } = await startStill(["ws"]);
  const watch = client.watch("a");
  const seen = record(watch);
  await until("it is live", () => watch.connection.state === "live");
  for (const connection of proxy.connections) connection.blackHole();
  await publish("a", "2");
  host.network("online");
  clock.advance(CHECK_MS - 1);
  expect(watch.connection.state).toBe("live");
  clock.advance(1);
  expect(watch.connection.state).toBe("reconnecting");
  await passing("it is live again", () => watch.connection.state === "live");
  await complete("a");
  await inTime("the end", watch.finished());
  expect(seen).toMatchObject({ revisions: [2, 3], gaps: [1], done: 1 });
});

test("a socket that lives survives the question", async () => {
  const { client, clock, host, proxy, server } = await startStill(["ws"]);
  const watch = client.watch("a");
  await until("it is live", () => watch.connection.state === "live");
  const asked = proxy.connections[0]?.passed.toClient ?? 0;
  host.network("online");
  await until("it has answered", () => (proxy.connections[0]?.passed.toClient ?? 0) > asked);
  await turns(50);
  clock.advance(CHECK_MS);
  expect(watch.connection.state).toBe("live");
  expect(server.monitor.stats().viewers.ws).toBe(1);
});

test("[V7] a page that opens without a network waits for it, however long", async () => {
  const server = await startServer();
  await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
  const proxy = await startFaultProxy(server.port);
  proxy.refuse();
  const { clock, host } = stillHost();
  const watch = startClient(proxy.port, {}, host).watch("a");
  host.network("offline");
  // Six rounds over three transports are what a line that never worked is given.
  await passingOn(clock)("it has tried long enough", () => proxy.refused > 30);
  expect(watch.connection).toMatchObject({ state: "offline", cause: { code: "unreachable" } });
  proxy.restore();
  host.network("online");
  const isUp = () => ["live", "polling"].includes(watch.connection.state);
  await passingOn(clock)("it is up", isUp);
});
