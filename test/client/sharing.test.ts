import { type ClientTransport, MonitorClientError } from "@org/workflow-monitor-client";
import { expect, test, vi } from "vitest";
import { failure, record, startClient, testHost } from "../support/client.js";
import { ManualClock } from "../support/clock.js";
import { startFaultProxy } from "../support/fault-proxy.js";
import { range } from "../support/frames.js";
import { type ServerOptions, startServer, type TestServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";

// Many connections, one after another: on a busy machine they take their time.
vi.setConfig({ testTimeout: 20_000 });

/** A server with a running job `a`, and a proxy that counts connections. */
async function startShared(options: ServerOptions = {}) {
  const server = await startServer(options);
  await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
  return { server, proxy: await startFaultProxy(server.port) };
}

const viewers = ({ monitor }: TestServer): number => {
  const { ws, sse, longPoll } = monitor.stats().viewers;
  return ws + sse + longPoll;
};

const complete = (server: TestServer, jobId = "a") =>
  server.monitor.publish({ type: "job", jobId, status: "completed" });

test("two watches of a job share a subscription: one that closes leaves the other", async () => {
  const { server, proxy } = await startShared();
  const client = startClient(proxy.port);
  const [one, other] = [client.watch("a"), client.watch("a")];
  const seen = record(other);
  await until("both see it", () => one.snapshot !== null && other.snapshot !== null);
  expect(viewers(server)).toBe(1);
  one.close();
  await complete(server);
  expect(await inTime("the end", other.finished())).toMatchObject({ status: "completed" });
  expect(seen).toMatchObject({ done: 1, revisions: [2] });
  expect(one.connection).toMatchObject({ state: "failed", cause: { code: "closed" } });
  expect(one.snapshot).toMatchObject({ status: "running" });
  expect(proxy.accepted).toBe(1);
});

test("a watch of a job that is watched already begins with its state, without the events before it", async () => {
  const { server } = await startShared();
  const client = startClient(server.port);
  const first = client.watch("a");
  await until("it is shown", () => first.snapshot !== null);
  const seen = record(client.watch("a"));
  await until("the second has it", () => seen.calls.length > 0);
  expect(seen).toMatchObject({ calls: ["change"], gaps: [1] });
  await complete(server);
  await first.finished();
  expect(seen).toMatchObject({ revisions: [2], done: 1 });
});

test("a watch that a listener begins is like any other", async () => {
  const { server } = await startShared();
  const client = startClient(server.port);
  const first = client.watch("a");
  let seen: ReturnType<typeof record> | undefined;
  first.on("event", () => {
    seen ??= record(client.watch("a"));
  });
  await until("it is shown", () => first.snapshot !== null);
  await server.monitor.publish({ type: "job", jobId: "a", message: "2" });
  await until("the second has it", () => Boolean(seen?.calls.length));
  await complete(server);
  await first.finished();
  expect(seen).toMatchObject({ gaps: [2], revisions: [3], done: 1 });
});

test("who closes a watch and begins another in the same turn keeps the connection", async () => {
  const { server, proxy } = await startShared();
  const client = startClient(proxy.port);
  const before = client.watch("a");
  await until("it is shown", () => before.snapshot !== null);
  before.close();
  const after = client.watch("a");
  const seen = record(after);
  await until("it is shown again", () => after.snapshot !== null);
  await complete(server);
  await inTime("the end", after.finished());
  expect(seen).toMatchObject({ gaps: [1], revisions: [2], done: 1 });
  expect(seen.connections).toEqual(["ended"]);
  expect(proxy.accepted).toBe(1);
});

test("a watch that was aborted before it began does not disturb the next one", async () => {
  const { server } = await startShared();
  const client = startClient(server.port);
  const aborted = client.watch("a", { signal: AbortSignal.abort() });
  expect((await failure(aborted)).code).toBe("closed");
  client.watch("a", { signal: AbortSignal.abort() });
  const watch = client.watch("a");
  await until("it is shown", () => watch.snapshot !== null);
  await complete(server);
  expect(await inTime("the end", watch.finished())).toMatchObject({ done: true });
});

test("a signal closes its watches, and keeps nothing of those that are over", async () => {
  const { server } = await startShared();
  const client = startClient(server.port);
  const stop = new AbortController();
  let listeners = 0;
  const { signal } = stop;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = ((...args: Parameters<typeof add>) => {
    listeners += 1;
    add(...args);
  }) as typeof add;
  signal.removeEventListener = ((...args: Parameters<typeof remove>) => {
    listeners -= 1;
    remove(...args);
  }) as typeof remove;
  const watches = range(1, 10).map(() => client.watch("a", { signal }));
  for (const watch of watches.slice(1)) watch.close();
  await until("one is left", () => listeners === 1);
  stop.abort();
  expect((await failure(watches[0] as (typeof watches)[0])).code).toBe("closed");
  await until("the server is left", () => viewers(server) === 0);
});

test("all jobs share one socket; those that a server does not take wait for their turn, and say why", async () => {
  const { server, proxy } = await startShared();
  const clock = new ManualClock();
  const host = testHost({
    now: clock.now,
    uptime: clock.monotonic,
    setTimeout: clock.setTimeout,
    random: () => 0,
  });
  const jobs = range(1, 70).map((n) => `job ${n}`);
  for (const jobId of jobs) await server.monitor.publish({ type: "job", jobId, status: "running" });
  const client = startClient(proxy.port, {}, host);
  const watches = jobs.map((jobId) => client.watch(jobId));
  const inState = (state: string) => watches.filter((watch) => watch.connection.state === state);
  await until("the server is full", () => inState("live").length === 64);
  await until("the others wait", () => inState("reconnecting").length === 6);
  for (const { connection } of inState("reconnecting")) {
    const cause = { code: "too_many_subscriptions", retryable: true };
    expect(connection).toMatchObject({ cause, retryAt: expect.any(Number) });
  }
  for (const { jobId } of watches.slice(0, 10)) await complete(server, jobId);
  await until("the others have their turn", () => {
    clock.advance(100);
    return inState("live").length === 60;
  });
  for (const { jobId } of watches.slice(10)) await complete(server, jobId);
  for (const watch of watches) await inTime("the end", watch.finished());
  expect(proxy.accepted).toBe(1);
  await until("nothing is open", () => proxy.connections.length === 0 && viewers(server) === 0);
});

test.each(["sse", "poll"] as const)(
  "ten jobs over %s hold four connections, and all of them arrive",
  async (transport) => {
    const { server } = await startShared();
    const host = testHost({
      // What is polled, is polled soon.
      setTimeout: (fn, ms) => testHost().setTimeout(fn, ms > 3_000 ? ms : ms / 100),
    });
    const jobs = range(1, 10).map((n) => `job ${n}`);
    for (const jobId of jobs)
      await server.monitor.publish({ type: "job", jobId, status: "running" });
    const client = startClient(server.port, { transports: [transport] }, host);
    const watches = jobs.map((jobId) => client.watch(jobId));
    const seen = watches.map(record);
    await until(
      "all are shown, four are held",
      () => viewers(server) === 4 && watches.every(({ snapshot }) => snapshot),
    );
    for (const n of range(1, 5)) {
      for (const jobId of jobs) {
        await server.monitor.publish({ type: "job", jobId, message: `${n}` });
      }
    }
    for (const jobId of jobs.slice(0, 6)) await complete(server, jobId);
    for (const watch of watches.slice(0, 6)) await inTime("the end", watch.finished());
    await until("the others take their place", () => viewers(server) === 4);
    for (const jobId of jobs.slice(6)) await complete(server, jobId);
    for (const watch of watches) await inTime("the end", watch.finished());
    for (const { revisions, done, gaps } of seen) {
      expect({ revisions, done, gaps }).toEqual({ revisions: range(2, 7), done: 1, gaps: [1] });
    }
    await until("nothing is open", () => viewers(server) === 0);
  },
);

test("a listener that throws disturbs nobody, and its error is reported", async () => {
  const { server } = await startShared();
  const reported: unknown[] = [];
  const report = (error: unknown) => reported.push(error);
  const others = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", report);
  try {
    const client = startClient(server.port);
    const watch = client.watch("a");
    for (const event of ["change", "event", "done", "connection"] as const) {
      watch.on(event, () => {
        throw new Error(event);
      });
    }
    const seen = record(watch);
    await until("it is shown", () => watch.snapshot !== null);
    await complete(server);
    await inTime("the end", watch.finished());
    expect(seen).toMatchObject({ revisions: [2], gaps: [1], done: 1 });
    await until("all are reported", () => reported.length >= 5);
    const messages = new Set(reported.map((error) => (error as Error).message));
    expect(messages).toEqual(new Set(["change", "event", "done", "connection"]));
  } finally {
    process.off("uncaughtException", report);
    for (const other of others) process.on("uncaughtException", other);
  }
});

test("a listener that closes its watch is the last to hear of it", async () => {
  const { server } = await startShared();
  const client = startClient(server.port);
  const watch = client.watch("a");
  const heard: string[] = [];
  watch.on("event", () => watch.close());
  watch.on("event", () => heard.push("event"));
  watch.on("change", ({ revision }) => heard.push(`change ${revision}`));
  await until("it is shown", () => watch.snapshot !== null);
  await server.monitor.publish({ type: "job", jobId: "a", message: "2" });
  await failure(watch);
  expect(heard).toEqual(["change 1"]);
});

const ENDINGS: Record<string, (port: number, transports: ClientTransport[]) => Promise<void>> = {
  async "leaving its loop"(port, transports) {
    const watch = startClient(port, { transports }).watch("a");
    for await (const { revision } of watch) {
      expect(revision).toBe(1);
      break;
    }
    expect((await failure(watch)).code).toBe("closed");
  },
  async "closing its client"(port, transports) {
    const client = startClient(port, { transports });
    const watch = client.watch("a");
    await until("it is shown", () => watch.snapshot !== null);
    client.close();
    client.close();
    const error = await failure(watch);
    expect(error).toBeInstanceOf(MonitorClientError);
    expect(error.code).toBe("closed");
    expect((await failure(client.watch("a"))).code).toBe("closed");
  },
  async "closing it, which ends its loop"(port, transports) {
    const watch = startClient(port, { transports }).watch("a");
    watch.on("change", () => setImmediate(() => watch.close()));
    const seen: number[] = [];
    for await (const { revision } of watch) seen.push(revision);
    expect(seen).toEqual([1]);
  },
};
const CASES = Object.keys(ENDINGS).flatMap((ending) =>
  (["ws", "sse", "poll"] as const).map((transport) => ({ ending, transport })),
);

test.each(CASES)("$ending ends a watch over $transport for the server, too", async (given) => {
  const { server } = await startShared();
  await (ENDINGS[given.ending] as (typeof ENDINGS)[string])(server.port, [given.transport]);
  await until("the server is left", () => viewers(server) === 0);
});
