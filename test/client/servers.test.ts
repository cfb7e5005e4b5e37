import { memoryStore } from "@org/workflow-monitor";
import { describe, expect, test, vi } from "vitest";
import { failure, record, startClient, testHost } from "../support/client.js";
import { ManualClock } from "../support/clock.js";
import { range } from "../support/frames.js";
import { startServer, type TestServer } from "../support/server.js";
import { startSwitch } from "../support/switch.js";
import { inTime, until } from "../support/wait.js";

// Many connections, one after another: on a busy machine they take their time.
vi.setConfig({ testTimeout: 20_000 });

/** A client whose time passes only while it waits, of the server that the switch leads to. */
async function startMoving(transport: "ws" | "sse" | "poll", server: TestServer) {
  const line = await startSwitch(server.port);
  const clock = new ManualClock();
  const { now, monotonic: uptime, setTimeout } = clock;
  const client = startClient(
    line.port,
    { transports: [transport] },
    testHost({ now, uptime, setTimeout, random: () => 0 }),
  );
  const watch = client.watch("a");
  const seen = record(watch);
  const passing = (what: string, holds: () => boolean) =>
    until(what, () => {
      clock.advance(20);
      return holds();
    });
  const isUp = () => ["live", "polling"].includes(watch.connection.state);
  await passing("it is up", isUp);
  return { line, watch, seen, passing, isUp };
}

const message = ({ monitor }: TestServer, text: string) =>
  monitor.publish({ type: "job", jobId: "a", message: text });
const complete = ({ monitor }: TestServer) =>
  monitor.publish({ type: "job", jobId: "a", status: "completed" });

describe.each(["ws", "sse", "poll"] as const)("over %s", (transport) => {
  test("a server that drains hands its viewers over to the next one, who miss nothing", async () => {
    const store = memoryStore();
    const [before, after] = [await startServer({ store }), await startServer({ store })];
    await message(before, "1");
    const { line, passing, seen, watch } = await startMoving(transport, before);
    await message(before, "2");
    await passing("the event has come", () => watch.snapshot?.message === "2");
    line.lead(after.port);
    await inTime("the drain", Promise.all([before.monitor.drain(), before.app.close()]));
    for (const n of range(3, 9)) await message(after, `${n}`);
    await passing("the events have come", () => watch.snapshot?.message === "9");
    await complete(after);
    await passing("it is over", () => watch.connection.state === "ended");
    expect(seen.revisions).toEqual(range(2, 10));
    expect(seen).toMatchObject({ gaps: [1], done: 1 });
  });

  test("a server that has lost its store tells the state anew, and that events are unknown", async () => {
    const [before, after] = [await startServer(), await startServer()];
    for (const n of range(1, 5)) await message(before, `${n}`);
    const { line, passing, seen, watch } = await startMoving(transport, before);
    await message(before, "6");
    await passing("the event has come", () => watch.snapshot?.message === "6");
    await message(after, "anew");
    line.lead(after.port);
    line.cut();
    await passing("the new log is shown", () => watch.snapshot?.message === "anew");
    await complete(after);
    await passing("it is over", () => watch.connection.state === "ended");
    expect(seen).toMatchObject({ gaps: [5, 1], revisions: [6, 2], done: 1 });
  });

  test("a job that the server does not know any more cannot be watched", async () => {
    const [before, after] = [await startServer(), await startServer()];
    await message(before, "1");
    const { line, passing, seen, watch } = await startMoving(transport, before);
    line.lead(after.port);
    line.cut();
    await passing("it is given up", () => watch.connection.state === "failed");
    expect(await failure(watch)).toMatchObject({ code: "unknown_job", retryable: false });
    expect(watch.snapshot).toMatchObject({ message: "1" });
    expect(seen).toMatchObject({ done: 0, gaps: [1] });
    await expect(watch[Symbol.asyncIterator]().next()).resolves.toMatchObject({ done: false });
  });

  test("a server that is not there yet is waited for", async () => {
    const server = await startServer();
    await message(server, "1");
    const { line, passing, watch } = await startMoving(transport, server);
    line.lead(null);
    line.cut();
    await passing("it is lost", () => watch.connection.state === "reconnecting");
    await passing("it is tried again and again", () => line.refused > 10);
    line.lead(server.port);
    await complete(server);
    await passing("it is over", () => watch.connection.state === "ended");
  });
});
