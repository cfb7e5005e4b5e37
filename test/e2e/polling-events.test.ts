import { type Frame, printCursor } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { turns } from "../support/clock.js";
import { as, type FrameOf, range, revisionsIn } from "../support/frames.js";
import { rawConnect } from "../support/raw.js";
import { eventsPath, type ServerOptions, startServer, type TestServer } from "../support/server.js";
import { countingStore } from "../support/stores.js";
import { until } from "../support/wait.js";

const JOB = "job";

/** A server with a job at revision 1. */
async function start(options: ServerOptions = {}): Promise<TestServer> {
  const server = await startServer(options);
  await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
  return server;
}

const publish = async (server: TestServer, message: string) =>
  printCursor(await server.monitor.publish({ type: "job", jobId: JOB, message }));

/** The frame of one poll for events. */
async function poll(server: TestServer, after?: string): Promise<FrameOf<"snapshot">> {
  const { status, json } = await server.get(eventsPath(JOB, after === undefined ? {} : { after }));
  expect(status).toBe(200);
  return as("snapshot", json<Frame>());
}

/** Polls, each time with the cursor of the time before, until the job is over. */
async function pollToEnd(server: TestServer, pause: () => Promise<void>) {
  const frames = [await poll(server)];
  while (!frames.at(-1)?.done) {
    await pause();
    frames.push(await poll(server, frames.at(-1)?.cursor));
  }
  return frames;
}

/** The events of snapshots and updates, in order. */
const eventTexts = (frames: readonly Frame[]): string[] =>
  frames
    .flatMap((frame) =>
      frame.type === "snapshot" ? frame.events : frame.type === "update" ? [frame.event] : [],
    )
    .map((event) => JSON.stringify(event));

describe("[D1] a viewer that only polls for events", () => {
  test("misses none and gets none twice, while hundreds are published", async () => {
    const server = await start();
    const pollers = [0, 1, 20].map((count) => pollToEnd(server, () => turns(count)));
    const ws = await server.watch(JOB);
    await ws.expect("snapshot");
    for (const n of range(1, 400)) {
      server.engine.emit("job", { jobId: JOB, message: `${n}` });
      if (n % 3 === 0) await turns(1);
    }
    server.engine.emit("job", { jobId: JOB, status: "completed" });
    await ws.readToEnd();
    for (const frames of await Promise.all(pollers)) {
      expect(frames.slice(1).every(({ resumed }) => resumed)).toBe(true);
      const revisions = revisionsIn(frames);
      const first = (frames[0]?.job.revision ?? 0) + 1;
      expect(revisions).toEqual(range(first, 402));
      // What it got are the events of the WebSocket.
      const [events, updates] = [eventTexts(frames), eventTexts(ws.frames)];
      const common = Math.min(events.length, updates.length);
      expect(events.slice(-common)).toEqual(updates.slice(-common));
    }
  });

  test("is told when history does not reach back: resumed is false", async () => {
    const server = await start({ limits: { historyBytes: 2_048 } });
    const { cursor } = await poll(server);
    for (const n of range(1, 100)) await publish(server, `${n} ${"x".repeat(300)}`);
    const frame = await poll(server, cursor);
    expect(frame).toMatchObject({ resumed: false, events: [] });
    expect(frame.job.revision).toBe(101);
    const last = await publish(server, "again in time");
    expect(await poll(server, frame.cursor)).toMatchObject({
      resumed: true,
      cursor: last,
      events: [{ message: "again in time" }],
    });
  });

  test("gets the frame of a WebSocket that comes back from there, byte for byte", async () => {
    const server = await start();
    const { cursor } = await poll(server);
    for (const message of ["ü 😀", "a\r\nb", "\u2028"]) await publish(server, message);
    const ws = await server.watch(JOB, { after: cursor });
    await ws.expect("snapshot");
    const { text, headers } = await server.get(eventsPath(JOB, { after: cursor }));
    expect(text).toBe(ws.text);
    expect(headers["content-length"]).toBe(String(Buffer.byteLength(text)));
    const fresh = await server.watch(JOB);
    await fresh.expect("snapshot");
    expect((await server.get(eventsPath(JOB))).text).toBe(fresh.text);
  });

  test("may come back over a WebSocket, and again as a poll", async () => {
    const server = await start();
    const { cursor } = await poll(server);
    await publish(server, "missed");
    const ws = await server.watch(JOB, { after: cursor });
    const back = await ws.expect("snapshot");
    expect(back).toMatchObject({ resumed: true, events: [{ message: "missed" }] });
    await publish(server, "on the socket");
    const update = await ws.expect("update");
    ws.socket.terminate();
    await publish(server, "missed again");
    expect((await poll(server, update.cursor)).events).toMatchObject([{ message: "missed again" }]);
  });

  test("has nothing to get at the head, nor after the end, and sees that it is over", async () => {
    const server = await start();
    const { cursor } = await poll(server);
    expect(await poll(server, cursor)).toMatchObject({ resumed: true, events: [], cursor });
    await server.monitor.publish({ type: "job", jobId: JOB, status: "failed" });
    const end = await poll(server, cursor);
    expect(end).toMatchObject({ done: true, events: [{ status: "failed" }] });
    expect(await poll(server, end.cursor)).toMatchObject({ done: true, resumed: true, events: [] });
  });

  test("leaves nothing behind: no viewer, no join, no line", async () => {
    const { store, counts } = countingStore();
    const server = await start({ store });
    let joins = 0;
    server.monitor.on("join", () => {
      joins += 1;
    });
    const { cursor } = await poll(server);
    for (const _ of range(1, 20)) await poll(server, cursor);
    await Promise.all(range(1, 20).map(() => poll(server, cursor)));
    expect(server.monitor.stats()).toMatchObject({
      parked: 0,
      pinnedBytes: 0,
      viewers: { ws: 0, sse: 0, longPoll: 0, watch: 0 },
    });
    expect(joins).toBe(0);
    expect(server.lines).toEqual([]);
    expect(counts.following).toBeLessThanOrEqual(1); // a room may linger
  });
});

describe("the answer to a poll for events", () => {
  test("is JSON with a validator, and is not cached without asking", async () => {
    const server = await start();
    const { headers, json } = await server.get(eventsPath(JOB));
    expect(headers["content-type"]).toBe("application/json; charset=utf-8");
    expect(headers["cache-control"]).toBe("private, no-cache");
    expect(headers.etag).toBe(`"${json<FrameOf<"snapshot">>().cursor}"`);
    const vary = String(headers.vary).toLowerCase();
    for (const name of ["authorization", "cookie", "accept"]) expect(vary).toContain(name);
    expect(Number(headers["retry-after"])).toBeGreaterThanOrEqual(1);
    await server.monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    expect("retry-after" in (await server.get(eventsPath(JOB))).headers).toBe(false);
  });

  const TAGS: [string, (tag: string) => string][] = [
    ["the tag", (tag) => tag],
    ["weak", (tag) => `W/${tag}`],
    ["a list", (tag) => `"x", ${tag}`],
    ["*", () => "*"],
  ];
  test.each(TAGS)("is 304 while If-None-Match fits: %s", async (name, make) => {
    const server = await start();
    const { etag = "" } = (await server.get(eventsPath(JOB))).headers;
    const headers = { "if-none-match": make(etag) };
    const unchanged = await server.get(eventsPath(JOB), headers);
    expect({ status: unchanged.status, text: unchanged.text }).toEqual({ status: 304, text: "" });
    expect(unchanged.headers.etag).toBe(etag);
    await publish(server, "two");
    const changed = await server.get(eventsPath(JOB), headers);
    expect(changed.status).toBe(name === "*" ? 304 : 200);
  });

  test("goes on after the one tag of If-None-Match, if there is no after", async () => {
    const server = await start();
    const { etag } = (await server.get(eventsPath(JOB))).headers;
    const two = await publish(server, "two");
    await publish(server, "three");
    const headers = { "if-none-match": etag };
    const events = async (path: string) =>
      (await server.get(path, headers)).json<FrameOf<"snapshot">>().events;
    expect(await events(eventsPath(JOB))).toMatchObject([{ message: "two" }, { message: "three" }]);
    expect(await events(eventsPath(JOB, { after: two }))).toMatchObject([{ message: "three" }]);
  });

  test("is a problem document for an unknown job, the same one for a forbidden one", async () => {
    const server = await start({ authorize: ({ jobId }) => jobId !== "secret" });
    await server.monitor.publish({ type: "job", jobId: "secret", status: "running" });
    const [unknown, secret] = await Promise.all(
      ["unknown", "secret"].map((jobId) => server.get(eventsPath(jobId))),
    );
    expect(unknown?.status).toBe(404);
    expect(unknown?.headers["content-type"]).toMatch(/^application\/problem\+json/);
    expect(unknown?.headers["cache-control"]).toBe("no-store");
    expect(secret?.text).toBe(unknown?.text);
    expect(server.monitor.stats().rooms).toBe(0);
  });

  test("of a node that goes is 503", async () => {
    const server = await start();
    await server.monitor.drain();
    const { status, json } = await server.get(eventsPath(JOB));
    expect(status).toBe(503);
    expect(json()).toMatchObject({ code: "draining" });
  });

  test("to HEAD is not a frame, and not a hang", async () => {
    const server = await start();
    const client = await rawConnect(server.port);
    const head = `HEAD ${eventsPath(JOB)} HTTP/1.1\r\nHost: x\r\n\r\n`;
    client.socket.write(`${head}GET /jobs/${JOB} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    await until("both are answered", () => client.ended());
    const statuses = [...client.text().matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
    expect(statuses).toEqual([expect.stringMatching(/404|405/), "200"]);
  });

  test("[R16] carries the shape that the host presents", async () => {
    const server = await start({ present: ({ status }) => ({ state: status }) });
    expect((await poll(server)).job).toEqual({ state: "running" });
    expect((await server.poll(JOB)).json()).toEqual({ state: "running" });
  });
});
