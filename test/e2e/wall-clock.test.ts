import { describe, expect, test } from "vitest";
import { ManualClock } from "../support/clock.js";
import { range } from "../support/frames.js";
import { startServer } from "../support/server.js";
import { openSubscriber, send, subscribe, watching } from "../support/subscriber.js";
import { inTime, until } from "../support/wait.js";

const HOUR_MS = 3_600_000;
/** NTP corrects it, a virtual machine resumes, somebody sets it. */
const STEPS = [
  ["an hour back", -HOUR_MS],
  ["an hour forward", HOUR_MS],
] as const;

async function start(options: Parameters<typeof startServer>[0] = {}) {
  const clock = new ManualClock();
  const server = await startServer({ clock, heartbeatMs: 600_000, drainMs: 0, ...options });
  return { clock, server, monitor: server.monitor };
}

describe.each(STEPS)("[S3] [R19] when the wall clock is set %s", (_, step) => {
  test("the rate of subscriptions goes on", async () => {
    const { clock, server, monitor } = await start({
      limits: { jobsPerConnection: 2, subscribesPerSecond: 1 },
    });
    for (const jobId of ["a", "b"]) await monitor.publish({ type: "job", jobId });
    const viewer = await watching(server, "a", "b");
    clock.step(step);
    send(viewer, subscribe("a"));
    expect(await viewer.expect("error")).toMatchObject({ code: "too_many_subscriptions" });
    clock.advance(1_000);
    send(viewer, subscribe("a"));
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: "a" });
  });

  test("viewers of a job over 64 KiB get it four times a second", async () => {
    const { clock, server, monitor } = await start();
    const stages = range(1, 400).map((n) => ({ stage: `stage ${n}` }));
    await monitor.publish({ type: "plan", jobId: "big", stages });
    const viewer = await server.watch("big");
    await viewer.expect("snapshot");
    await monitor.publish({ type: "job", jobId: "big", message: "one" });
    await viewer.expect("snapshot");
    clock.step(step);
    await monitor.publish({ type: "job", jobId: "big", message: "two" });
    clock.advance(250);
    expect(await viewer.expect("snapshot")).toMatchObject({ job: { message: "two" } });
  });

  test("a cursor of a lost log is answered", async () => {
    const { clock, server, monitor } = await start();
    await monitor.publish({ type: "job", jobId: "a" });
    const keep = await server.watch("a");
    await keep.expect("snapshot");
    const first = await server.watch("a", { after: "aaaaaaaaaaaa.7" });
    await first.expect("snapshot");
    clock.step(step);
    const second = await server.watch("a", { after: "bbbbbbbbbbbb.7" });
    await until("the read is on its way", () => {
      clock.advance(500);
      return second.frames.length > 0;
    });
    expect(await second.expect("snapshot")).toMatchObject({ resumed: false });
  });

  test("streams and sockets stay, and get what comes", async () => {
    const { clock, server, monitor } = await start({ heartbeatMs: 1_000 });
    await monitor.publish({ type: "job", jobId: "a", status: "running" });
    const stream = await server.stream("a");
    const socket = await server.watch("a");
    for (const viewer of [stream, socket]) await viewer.expect("snapshot");
    clock.step(step);
    clock.advance(1_000);
    for (const viewer of [stream, socket]) {
      const beats = () =>
        viewer.frames.flatMap((frame) => (frame.type === "heartbeat" ? [frame] : []));
      await until("it has a heartbeat", () => beats().length > 0);
      const [beat] = beats();
      expect(clock.now() - Date.parse(beat?.timestamp ?? "")).toBeLessThan(1_000);
    }
    await monitor.publish({ type: "job", jobId: "a", message: "on" });
    for (const viewer of [stream, socket]) await viewer.expect("update");
  });

  test("a connection that watches nothing has its 10 s", async () => {
    const { clock, server } = await start();
    const viewer = await openSubscriber(server);
    await server.get("/jobs"); // a round trip: the connection is there
    clock.step(step);
    clock.advance(9_999);
    expect(viewer.socket.readyState).toBe(viewer.socket.OPEN);
    clock.advance(1);
    expect((await viewer.closed).code).toBe(4408);
  });

  test("jobs are kept for their time, and no longer", async () => {
    const { clock, monitor } = await start({ retainMs: 60_000 });
    await monitor.publish({ type: "job", jobId: "a", status: "completed" });
    clock.step(step);
    clock.advance(59_999);
    expect(await monitor.get("a")).toMatchObject({ status: "completed" });
    clock.advance(1);
    expect(await monitor.get("a")).toBeUndefined();
  });

  test("a drain takes as long as it was given", async () => {
    const { clock, server, monitor } = await start({ drainMs: 1_000 });
    await monitor.publish({ type: "job", jobId: "a" });
    const viewers = await Promise.all(range(1, 120).map(() => server.watch("a")));
    for (const viewer of viewers) await viewer.expect("snapshot");
    const drained = monitor.drain();
    clock.step(step);
    await until("everybody was told", () => {
      clock.advance(50);
      return monitor.stats().viewers.ws === 0;
    });
    await inTime("the drain", drained);
  });
});
