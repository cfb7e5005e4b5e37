import {
  allowAll,
  createWorkflowMonitor,
  type JobStore,
  type ListSlice,
  memoryStore,
  WorkflowMonitorError,
} from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import Fastify from "fastify";
import { expect, onTestFinished, test } from "vitest";
import { ManualClock, turns } from "../support/clock.js";
import { startServer } from "../support/server.js";
import { connect } from "../support/viewer.js";
import { inTime, until } from "../support/wait.js";

/** A store of which one call can be silenced. */
function silenced(): { store: JobStore; silence(): void; reads(): number; fail(): void } {
  const inner = memoryStore();
  let silent = false;
  let failing = false;
  let reads = 0;
  const store: JobStore = {
    ...inner,
    read(jobId, after) {
      reads += 1;
      if (failing) return Promise.reject(new Error("the store is away"));
      return silent ? new Promise(() => {}) : inner.read(jobId, after);
    },
    async list(query) {
      reads += 1;
      if (silent) await new Promise(() => {});
      return (await inner.list?.(query)) as ListSlice;
    },
  };
  return {
    store,
    silence: () => {
      silent = true;
    },
    fail: () => {
      failing = true;
    },
    reads: () => reads,
  };
}

test("a store that does not answer a join does not hold up app.close()", async () => {
  const { store, silence, reads } = silenced();
  silence();
  const server = await startServer({ store });
  const viewer = connect(server.wsUrl("job"));
  await until("it asked the store", () => reads() === 1);
  await inTime("app.close()", server.app.close(), 3_000);
  expect((await viewer.closed).code).toBe(1012);
}, 15_000);

test("a store that does not answer for a foreign cursor does not hold up app.close()", async () => {
  const { store, silence, reads } = silenced();
  const server = await startServer({ store });
  await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
  const first = await server.watch("job");
  await first.expect("snapshot");
  silence();
  const before = reads();
  const viewer = connect(server.wsUrl("job", { after: "zzzzzzzzzzzz.1" }));
  await until("it asked the store", () => reads() === before + 1);
  await inTime("app.close()", server.app.close(), 3_000);
  expect((await viewer.closed).code).toBe(1012);
}, 15_000);

test.each([`/jobs/job`, `/jobs/job?wait=20`, "/jobs"])(
  "a store that does not answer a read does not hold up app.close(): GET %s",
  { timeout: 15_000 },
  async (path) => {
    const { store, silence, reads } = silenced();
    silence();
    const server = await startServer({ store });
    const answer = server.get(path);
    await until("it asked the store", () => reads() === 1);
    await inTime("app.close()", server.app.close(), 3_000);
    expect(await answer).toMatchObject({ status: 503, headers: { "retry-after": "1" } });
  },
);

test("a room that was closed asks a failing store no more", async () => {
  const clock = new ManualClock();
  let connected = (_there: boolean) => {};
  const { store, fail, reads } = silenced();
  const connection: JobStore["connection"] = (listener) => {
    connected = listener;
    return () => {};
  };
  const monitor = createWorkflowMonitor({
    authorize: allowAll,
    clock,
    store: { ...store, connection },
  });
  const publisher = createWorkflowMonitor({ authorize: allowAll, clock, store });
  await publisher.publish({ type: "job", jobId: "job", status: "running" });
  const watching = monitor.watch("job");
  await watching.next();
  fail();
  connected(false);
  connected(true);
  await monitor.drain();
  await turns();
  const before = reads();
  clock.advance(10_000);
  await turns();
  expect(reads()).toBe(before);
  expect(clock.timers).toBe(0);
  await monitor.close();
  await publisher.close();
});

test("a viewer is served again although inFlightBytes is below what its socket holds", async () => {
  const server = await startServer({ limits: { inFlightBytes: 1 } });
  await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
  const viewer = await server.watch("job");
  await viewer.expect("snapshot");
  for (let n = 1; n <= 200; n++) {
    const message = `${n} ${"x".repeat(500)}`;
    void server.monitor.publish({ type: "job", jobId: "job", message });
  }
  await server.monitor.publish({ type: "job", jobId: "job", status: "completed" });
  const frames = await viewer.readToEnd();
  expect(frames.at(-1)?.type).toBe("end");
  expect(server.monitor.stats().parked).toBe(0);
});

test("what a hook of the host answers is the host's", async () => {
  const monitor = createWorkflowMonitor({ authorize: allowAll });
  const app = Fastify();
  onTestFinished(async () => {
    await app.close();
    await monitor.close();
  });
  app.addHook("onRequest", async (request) => {
    const status = Number(request.headers["x-status"]);
    throw Object.assign(new Error("of the host"), { statusCode: status });
  });
  await app.register(workflowMonitorHttp, { monitor });
  for (const status of [401, 429, 503]) {
    const answer = await app.inject({ url: "/jobs/42", headers: { "x-status": String(status) } });
    expect(answer.statusCode).toBe(status);
    expect(answer.json()).toMatchObject({ message: "of the host" });
  }
});

test("[R15] a job that is run again after its time to read is its next run", async () => {
  const clock = new ManualClock();
  const monitor = createWorkflowMonitor({ authorize: allowAll, clock });
  const plan = { stages: [{ stage: "a" }] };
  await monitor.run("job", plan, ({ stage }) => stage("a", () => 1));
  clock.advance(3_600_001);
  expect(await monitor.get("job")).toBeUndefined();
  await monitor.run("job", plan, ({ stage }) => stage("a", () => 2));
  expect(await monitor.get("job")).toMatchObject({ run: 2, status: "completed" });
  await monitor.close();
});

test("an error of a store is told as far as a close frame has room for it", async () => {
  const message = `${"ü".repeat(61)}€€`; // its 123rd byte is in the middle of a character
  const failing = () => Promise.reject(new WorkflowMonitorError("internal", message));
  const server = await startServer({ store: { ...memoryStore(), read: failing } });
  const viewer = connect(server.wsUrl("job"));
  expect(await viewer.expect("error")).toMatchObject({ code: "internal", message });
  expect(await viewer.closed).toEqual({ code: 1011, reason: "ü".repeat(61) });
});

test("[D12] viewers do not read why a store is unavailable: it is for the log", async () => {
  const secret = "Redis refuses a command (NOPERM …): see 10.0.0.7.";
  const failing = () => Promise.reject(new WorkflowMonitorError("unavailable", secret));
  const server = await startServer({ store: { ...memoryStore(), read: failing, list: failing } });
  const viewer = connect(server.wsUrl("job"));
  const told = { code: "unavailable", message: "The store does not answer: try again." };
  expect(await viewer.expect("error")).toMatchObject(told);
  for (const path of ["/jobs", "/jobs/job", "/jobs/job/events"])
    expect((await server.get(path)).text).toContain(told.message);
  expect(server.lines.map(({ message }) => message)).toContain(`the store fails: ${secret}`);
});

test("a watch can be left while it waits, and leaves its seat", async () => {
  const monitor = createWorkflowMonitor({ authorize: allowAll });
  await monitor.publish({ type: "job", jobId: "job", status: "running" });
  const frames = monitor.watch("job");
  await frames.next();
  const pending = frames.next();
  await inTime("return()", Promise.resolve(frames.return?.()), 1_000);
  expect(await pending).toEqual({ done: true, value: undefined });
  expect(monitor.stats().viewers.watch).toBe(0);
  await monitor.close();
});

test("a watch that is aborted while the store is silent ends, and leaves no seat", async () => {
  const { store, silence } = silenced();
  const monitor = createWorkflowMonitor({ authorize: allowAll, store });
  await monitor.publish({ type: "job", jobId: "job", status: "running" });
  silence();
  const stop = new AbortController();
  const next = monitor.watch("job", { signal: stop.signal }).next();
  await turns();
  stop.abort();
  expect(await inTime("the end", next, 1_000)).toEqual({ done: true, value: undefined });
  await monitor.close();
  await until("nobody watches", () => monitor.stats().viewers.watch === 0);
});
