import { printCursor } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { ManualClock } from "../support/clock.js";
import { range } from "../support/frames.js";
import { clientFrame, Opcode } from "../support/raw.js";
import { type ServerOptions, startServer, type TestServer } from "../support/server.js";
import { slowClient } from "../support/slow.js";
import {
  handled,
  openSubscriber,
  send,
  subscribe,
  unsubscribe,
  watching,
} from "../support/subscriber.js";
import { until } from "../support/wait.js";

/** A server on a clock that the test moves, with running jobs of these names. */
async function start(jobs: readonly string[] = ["a", "b", "c"], options: ServerOptions = {}) {
  const clock = new ManualClock();
  const server = await startServer({ clock, heartbeatMs: 600_000, ...options });
  for (const jobId of jobs) {
    await server.monitor.publish({ type: "job", jobId, status: "running" });
  }
  return { clock, server };
}

const say = async (server: TestServer, jobId: string, message: string) =>
  printCursor(await server.monitor.publish({ type: "job", jobId, message }));

describe("[D7] what is refused is told, and ends nothing else", () => {
  test("a job that is unknown, or forbidden", async () => {
    const { server } = await start(["a", "secret"], {
      authorize: ({ jobId }) => jobId !== "secret",
    });
    const viewer = await watching(server, "a");
    send(viewer, subscribe("unknown"), subscribe("secret"));
    const { jobId: _, ...unknown } = await viewer.expect("error");
    const { jobId, ...secret } = await viewer.expect("error");
    expect(unknown).toMatchObject({ code: "unknown_job", retryable: false });
    expect({ jobId, secret }).toEqual({ jobId: "secret", secret: unknown });
    await say(server, "a", "goes on");
    expect(await viewer.expect("update")).toMatchObject({ jobId: "a" });
    expect(server.monitor.stats()).toMatchObject({ rooms: 1, viewers: { ws: 1 } });
  });

  test("a job that is full of viewers, or whose authorize fails", async () => {
    const { server } = await start(["a", "full"], {
      limits: { viewersPerJob: 1 },
      authorize: ({ jobId }) => jobId !== "broken" || Promise.reject(new Error("secret reason")),
    });
    const other = await server.watch("full");
    await other.expect("snapshot");
    const viewer = await watching(server, "a");
    send(viewer, subscribe("full"), subscribe("broken"));
    expect(await viewer.expect("error")).toMatchObject({
      jobId: "full",
      code: "too_many_viewers",
      retryable: true,
      retryAfterMs: expect.any(Number),
    });
    expect(await viewer.expect("error")).toMatchObject({ jobId: "broken", code: "unavailable" });
    expect(viewer.text).not.toContain("secret reason");
    await say(server, "a", "goes on");
    expect(await viewer.expect("update")).toMatchObject({ jobId: "a" });
  });

  test("the 65th job, while the 64 go on", async () => {
    const jobs = range(1, 65).map((n) => `job ${n}`);
    const { clock, server } = await start(jobs, { drainMs: 0 });
    const viewer = await watching(server, ...jobs.slice(0, 64));
    clock.advance(9_000); // not the rate is at its limit
    send(viewer, subscribe("job 65"));
    expect(await viewer.expect("error")).toMatchObject({
      jobId: "job 65",
      code: "too_many_subscriptions",
      retryable: true,
    });
    for (const jobId of jobs.slice(0, 64)) server.engine.emit("job", { jobId, message: "on" });
    const updated = new Set<string>();
    for (const _ of range(1, 64)) updated.add((await viewer.expect("update")).jobId);
    expect(updated.size).toBe(64);
    send(viewer, subscribe("job 1")); // of one that it watches
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: "job 1" });
    send(viewer, unsubscribe("job 1"), subscribe("job 65"));
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: "job 65" });
  });

  test("a job that is unknown, on a line that is full of another", async () => {
    const jobsPerConnection = 3;
    const { server } = await start(["large"], {
      limits: { jobsPerConnection },
      present: () => "x".repeat(10_000_000), // more than the kernel hides
    });
    const slow = await slowClient(server.port, "/ws?jobId=large");
    await until("it is full", () => server.monitor.stats().pinnedBytes > 10_000_000);
    const ask = (jobId: string) =>
      slow.socket.write(clientFrame(Opcode.text, JSON.stringify(subscribe(jobId))));
    for (const n of range(1, jobsPerConnection)) ask(`unknown ${n}`);
    slow.read();
    await until("all is told", () => slow.frames.length === 1 + jobsPerConnection);
    expect(slow.frames).toMatchObject([
      { type: "snapshot", jobId: "large" },
      ...range(1, jobsPerConnection).map((n) => ({ type: "error", jobId: `unknown ${n}` })),
    ]);
    expect(slow.closed).toBe(false);
  });

  test("what is asked without end by one who reads no answer, until the connection closes", async () => {
    const { clock, server } = await start(["large"], {
      limits: { jobsPerConnection: 3 },
      present: () => "x".repeat(10_000_000),
    });
    const codes: number[] = [];
    server.monitor.on("leave", ({ code }) => codes.push(code));
    const slow = await slowClient(server.port, "/ws?jobId=large");
    await until("it is full", () => server.monitor.stats().pinnedBytes > 10_000_000);
    for (const n of range(1, 4)) {
      clock.advance(100);
      slow.socket.write(clientFrame(Opcode.text, JSON.stringify(subscribe(`unknown ${n}`))));
    }
    await until("it has left", () => codes.length > 0);
    expect(codes).toEqual([4429]);
  });

  test("limits are the host's to set", async () => {
    const { server } = await start(["a", "b", "c"], { limits: { jobsPerConnection: 2 } });
    const viewer = await watching(server, "a", "b");
    send(viewer, subscribe("c"));
    expect(await viewer.expect("error")).toMatchObject({ code: "too_many_subscriptions" });
  });

  test("subscribing too often: 64 at once, then 10 a second", async () => {
    const { clock, server } = await start(["a"]);
    const viewer = await openSubscriber(server);
    /** Subscribes so many times; resolves to how many were granted. */
    const results = async (count: number) => {
      const answers = () => viewer.frames.filter(({ type }) => type !== "heartbeat");
      const from = answers().length;
      for (const _ of range(1, count)) send(viewer, subscribe("a"));
      await until("all are answered", () => answers().length === from + count);
      return answers()
        .slice(from)
        .filter(({ type }) => type === "snapshot").length;
    };
    expect(await results(80)).toBe(64);
    const refused = viewer.frames.find(({ type }) => type === "error");
    expect(refused).toMatchObject({
      type: "error",
      jobId: "a",
      code: "too_many_subscriptions",
      retryable: true,
      retryAfterMs: expect.any(Number),
    });
    const { retryAfterMs = 0 } = refused as { retryAfterMs?: number };
    expect(retryAfterMs).toBeGreaterThan(0);
    clock.advance(retryAfterMs);
    expect(await results(1)).toBe(1);
    clock.advance(1_000);
    expect(await results(20)).toBe(10);
    clock.advance(60_000);
    expect(await results(80)).toBe(64);
    // What was refused did not end what is watched.
    await say(server, "a", "goes on");
    await viewer.readUntil((frame) => frame.type === "update");
  });
});

describe("[D7] a connection that watches nothing", () => {
  test.each(["from the beginning", "since it unsubscribed", "since it was refused"])(
    "has 10 s to subscribe: %s",
    async (how) => {
      const { clock, server } = await start();
      const viewer = await openSubscriber(server);
      if (how === "since it unsubscribed") {
        send(viewer, subscribe("a"));
        await viewer.expect("snapshot");
        clock.advance(60_000); // it watches something
        send(viewer, unsubscribe("a"));
      }
      if (how === "since it was refused") {
        send(viewer, subscribe("unknown"));
        await viewer.expect("error");
      }
      await handled(viewer);
      clock.advance(9_999);
      await handled(viewer);
      clock.advance(1);
      expect(await viewer.readToEnd()).toMatchObject([
        { type: "error", code: "subscribe_timeout", retryable: true },
      ]);
      expect("jobId" in (viewer.frames.at(-1) ?? {})).toBe(false);
      expect((await viewer.closed).code).toBe(4408);
    },
  );

  test("has no such limit once it watches something", async () => {
    const { clock, server } = await start();
    const viewer = await openSubscriber(server);
    clock.advance(9_999);
    send(viewer, subscribe("a"));
    await viewer.expect("snapshot");
    clock.advance(60_000);
    await say(server, "a", "goes on");
    expect(await viewer.expect("update")).toMatchObject({ jobId: "a" });
  });

  test("leaves no timer when it goes", async () => {
    const { clock, server } = await start();
    const timers = clock.timers;
    const viewer = await openSubscriber(server);
    await handled(viewer);
    expect(clock.timers).toBeGreaterThan(timers);
    viewer.socket.terminate();
    await until("no timer is left of it", () => clock.timers === timers);
  });
});

test.each(["at once", "after it subscribed to others"])(
  "one that was opened for a job that cannot be watched is closed with that error's code: %s",
  async (when) => {
    let refuse: (() => void) | undefined;
    const { server } = await start(["a", "secret"], {
      authorize: ({ jobId }) =>
        jobId === "a" || new Promise<boolean>((resolve) => (refuse = () => resolve(false))),
    });
    const viewer = await server.watch("secret");
    await until("authorize is asked", () => refuse !== undefined);
    if (when === "after it subscribed to others") {
      send(viewer, subscribe("a"));
      await viewer.expect("snapshot");
    }
    refuse?.();
    expect(await viewer.readToEnd()).toMatchObject([{ type: "error", code: "unknown_job" }]);
    expect((await viewer.closed).code).toBe(4404);
    await until("nobody is left", () => server.monitor.stats().viewers.ws === 0);
  },
);
