import { applyPatch, type LeaveEvent, printCursor } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { ManualClock } from "../support/clock.js";
import { range } from "../support/frames.js";
import { clientFrame, Opcode, rawUpgrade } from "../support/raw.js";
import { type ServerOptions, startServer, type TestServer } from "../support/server.js";
import { countingStore } from "../support/stores.js";
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

describe("[D7] a connection with many jobs", () => {
  test("gets the frames of each, the same bytes as a connection for one", async () => {
    const { server } = await start();
    const alone = await Promise.all(["a", "b"].map((jobId) => server.watch(jobId)));
    const viewer = await watching(server, "a", "b");
    for (const one of alone) await one.expect("snapshot");
    for (const n of range(1, 20)) await say(server, n % 2 ? "a" : "b", `${n}`);
    for (const n of range(1, 20)) {
      const jobId = n % 2 ? "a" : "b";
      expect(await viewer.expect("update")).toMatchObject({ jobId, event: { message: `${n}` } });
    }
    const texts = viewer.payloads.map(String);
    for (const [at, jobId] of ["a", "b"].entries()) {
      await until("it has them, too", () => alone[at]?.payloads.length === 11);
      expect(texts.filter((text) => text.includes(`"jobId":"${jobId}","cursor"`))).toEqual(
        alone[at]?.payloads.map(String),
      );
    }
  });

  test("has a cursor and a mode for each", async () => {
    const { server } = await start();
    const cursors = new Map<string, string>();
    for (const jobId of ["a", "b", "c"]) {
      cursors.set(jobId, await say(server, jobId, "seen"));
      await say(server, jobId, `${jobId} missed`);
    }
    const viewer = await openSubscriber(server);
    const since = (jobId: string) => ({ after: cursors.get(jobId) ?? "" });
    send(
      viewer,
      subscribe("a", since("a")),
      subscribe("b", { ...since("b"), mode: "delta" }),
      subscribe("c", since("a")), // another job's
    );
    const missed = (jobId: string) => [{ message: `${jobId} missed` }];
    const firsts = [];
    for (const _ of range(1, 3)) firsts.push(await viewer.expect("snapshot"));
    expect(firsts).toMatchObject([
      { jobId: "a", resumed: true, events: missed("a") },
      { jobId: "b", resumed: true, events: missed("b") },
      { jobId: "c", resumed: false, events: [] },
    ]);
    await say(server, "a", "next");
    await say(server, "b", "next");
    expect(await viewer.expect("update")).toMatchObject({ jobId: "a", job: { message: "next" } });
    const delta = await viewer.expect("update");
    expect(delta).toMatchObject({ jobId: "b", patch: { message: "next" } });
    const job = applyPatch(firsts[1]!.job, delta.patch ?? {});
    expect(job).toEqual(await server.monitor.get("b"));
  });

  test("gets nothing more of a job that it unsubscribed, and can come back to it", async () => {
    const { server } = await start();
    const viewer = await watching(server, "a", "b");
    send(viewer, unsubscribe("a"));
    await handled(viewer);
    const seen = await say(server, "a", "unseen");
    await say(server, "b", "seen");
    expect(await viewer.expect("update")).toMatchObject({ jobId: "b" });
    send(viewer, subscribe("a", { after: seen }));
    expect(await viewer.expect("snapshot")).toMatchObject({
      jobId: "a",
      resumed: true,
      events: [],
    });
    await say(server, "a", "again");
    expect(await viewer.expect("update")).toMatchObject({ jobId: "a" });
  });

  test("begins anew with a job that it subscribes again", async () => {
    const { server } = await start();
    const viewer = await watching(server, "a", "b");
    const one = await say(server, "a", "one");
    const two = await say(server, "a", "two");
    for (const _ of range(1, 2)) await viewer.expect("update");
    send(viewer, subscribe("a", { after: one, mode: "delta" }));
    expect(await viewer.expect("snapshot")).toMatchObject({
      jobId: "a",
      cursor: two,
      resumed: true,
      events: [{ message: "two" }],
    });
    await say(server, "a", "three");
    expect(await viewer.expect("update")).toMatchObject({ patch: { message: "three" } });
    await handled(viewer);
    expect(viewer.frames.filter((frame) => frame.type === "update")).toHaveLength(3); // once
  });

  test("is not disturbed by unsubscribing what it does not watch", async () => {
    const { server } = await start();
    const viewer = await watching(server, "a");
    send(viewer, unsubscribe("b"), unsubscribe("unknown"), unsubscribe("b"));
    await handled(viewer);
    await say(server, "a", "goes on");
    expect(await viewer.expect("update")).toMatchObject({ jobId: "a" });
  });

  test("may have been opened for one of them", async () => {
    const { server } = await start();
    const viewer = await server.watch("a");
    send(viewer, subscribe("b"));
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: "a" });
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: "b" });
    send(viewer, unsubscribe("a"));
    await handled(viewer);
    await say(server, "a", "unseen");
    await say(server, "b", "seen");
    expect(await viewer.expect("update")).toMatchObject({ jobId: "b" });
  });
});

describe("[D7] subscribing and unsubscribing are handled one after another", () => {
  test("also when they come in one segment: subscribe, unsubscribe, subscribe", async () => {
    const { server } = await start();
    const client = await rawUpgrade(server.port, "/ws");
    const messages = [subscribe("a"), unsubscribe("a"), subscribe("a")];
    client.socket.write(
      Buffer.concat(messages.map((one) => clientFrame(Opcode.text, JSON.stringify(one)))),
    );
    const count = (type: string) => client.text().split(`"type":"${type}"`).length - 1;
    await until("both are answered", () => count("snapshot") === 2);
    await say(server, "a", "once");
    await until("the update comes", () => client.text().includes("once"));
    await server.poll("a");
    expect(count("update")).toBe(1);
    expect(server.monitor.stats().viewers.ws).toBe(1);
  });

  test("also when authorize is slow, and faster for the later ones", async () => {
    let answer: ((may: boolean) => void) | undefined;
    const { server } = await start(["a", "b"], {
      authorize: ({ jobId }) =>
        jobId === "b" || new Promise<boolean>((resolve) => (answer = resolve)),
    });
    const viewer = await openSubscriber(server);
    send(viewer, subscribe("a"), unsubscribe("a"), subscribe("b"));
    await until("authorize is asked", () => answer !== undefined);
    await handled(viewer); // a ping need not wait
    expect(viewer.frames.map(({ type }) => type)).toEqual(["heartbeat"]);
    answer?.(true);
    const first = await viewer.readUntil((frame) => "jobId" in frame && frame.jobId === "b");
    expect(first.slice(0, -1).every((frame) => "jobId" in frame && frame.jobId === "a")).toBe(true);
    await say(server, "a", "unseen");
    await say(server, "b", "seen");
    expect(await viewer.expect("update")).toMatchObject({ jobId: "b" });
    expect(server.monitor.stats().viewers.ws).toBe(1);
  });

  test.each([
    ["subscribe", subscribe("a"), 1],
    ["unsubscribe", unsubscribe("a"), 0],
  ])("also after the job that it was opened for: %s", async (_, message, left) => {
    const asked: ((may: boolean) => void)[] = [];
    const { server } = await start(["a", "b"], {
      authorize: ({ jobId }) =>
        jobId === "b" || new Promise<boolean>((resolve) => asked.push(resolve)),
    });
    const viewer = await server.watch("a");
    await until("authorize is asked", () => asked.length === 1);
    send(viewer, message, subscribe("b"));
    await handled(viewer);
    asked[0]?.(true);
    if (left > 0) await until("authorize is asked again", () => asked.length === 2);
    asked[1]?.(true);
    await viewer.readUntil((frame) => "jobId" in frame && frame.jobId === "b");
    expect(server.monitor.stats().viewers.ws).toBe(left + 1);
    await say(server, "a", "once");
    await say(server, "b", "last");
    const updates = await viewer.readUntil(
      (frame) => frame.type === "update" && frame.jobId === "b",
    );
    expect(updates.map((frame) => "jobId" in frame && frame.jobId)).toEqual(
      left > 0 ? ["a", "b"] : ["b"],
    );
  });

  test("a ping is answered before there is anything to watch", async () => {
    const { server } = await start();
    const viewer = await openSubscriber(server);
    send(viewer, { type: "ping" });
    await until("it is answered", () => viewer.frames.length === 1);
    expect(viewer.frames).toEqual([{ type: "heartbeat", timestamp: expect.any(String) }]);
  });
});

describe("[D7] the end", () => {
  const complete = (server: TestServer, jobId: string) =>
    server.monitor.publish({ type: "job", jobId, status: "completed" });

  test("of one job is not that of the connection; that of the last is", async () => {
    const { server } = await start();
    const viewer = await watching(server, "a", "b");
    await complete(server, "a");
    await viewer.expect("update");
    expect(await viewer.expect("end")).toMatchObject({ jobId: "a", status: "completed" });
    await say(server, "b", "goes on");
    expect(await viewer.expect("update")).toMatchObject({ jobId: "b" });
    send(viewer, subscribe("c"));
    await viewer.expect("snapshot");
    await complete(server, "b");
    await complete(server, "c");
    const rest = (await viewer.readToEnd()).map((frame) => ("jobId" in frame ? frame.jobId : ""));
    expect(rest).toEqual(["b", "b", "c", "c"]);
    expect(viewer.frames.at(-1)?.type).toBe("end");
    expect((await viewer.closed).code).toBe(1000);
  });

  test("of a job that was over before is told at once, and closes a connection for it alone", async () => {
    const { server } = await start();
    const { epoch, revision } = await complete(server, "a");
    const both = await watching(server, "b");
    send(both, subscribe("a"));
    expect(await both.expect("snapshot")).toMatchObject({ jobId: "a", done: true });
    expect(await both.expect("end")).toMatchObject({ jobId: "a" });
    await say(server, "b", "goes on");
    expect(await both.expect("update")).toMatchObject({ jobId: "b" });
    const alone = await openSubscriber(server);
    send(alone, subscribe("a", { after: `${epoch}.${revision}` }));
    expect((await alone.readToEnd()).map(({ type }) => type)).toEqual(["snapshot", "end"]);
    expect((await alone.closed).code).toBe(1000);
  });
});

test("a connection that is cut leaves all its jobs", async () => {
  const { store, counts } = countingStore();
  const { clock, server } = await start(["a", "b", "c"], { store });
  const left: LeaveEvent[] = [];
  server.monitor.on("leave", (event) => left.push(event));
  const viewer = await watching(server, "a", "b", "c");
  expect(counts.following).toBe(3);
  viewer.socket.terminate();
  await until("it has left", () => server.monitor.stats().viewers.ws === 0);
  expect(left.map(({ jobId }) => jobId).sort()).toEqual(["a", "b", "c"]);
  clock.advance(5_000); // the rooms linger
  await until("nothing is followed", () => counts.following === 0);
  expect(server.monitor.stats()).toMatchObject({ rooms: 0, parked: 0, pinnedBytes: 0 });
});

test("[D9] a drain sends a connection away, and tells it so for each of its jobs", async () => {
  const { server } = await start();
  const left: LeaveEvent[] = [];
  server.monitor.on("leave", (event) => left.push(event));
  const viewer = await watching(server, "a", "b", "c");
  const nothing = await openSubscriber(server);
  await server.monitor.drain();
  const told = await viewer.readToEnd();
  expect(told.map((frame) => frame.type === "error" && frame.jobId).sort()).toEqual([
    "a",
    "b",
    "c",
  ]);
  for (const frame of told) expect(frame).toMatchObject({ code: "draining", retryable: true });
  expect(await nothing.readToEnd()).toMatchObject([{ type: "error", code: "draining" }]);
  expect("jobId" in (nothing.frames[0] ?? {})).toBe(false);
  for (const one of [viewer, nothing]) expect((await one.closed).code).toBe(1012);
  expect(left.map(({ jobId, code }) => `${jobId} ${code}`).sort()).toEqual([
    "a 1012",
    "b 1012",
    "c 1012",
  ]);
});
