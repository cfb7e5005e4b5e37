import { type LeaveEvent, printCursor, type ViewerEvent } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { ManualClock, turns } from "../support/clock.js";
import type { EventStream } from "../support/event-stream.js";
import { range } from "../support/frames.js";
import { eventsPath, type ServerOptions, startServer, type TestServer } from "../support/server.js";
import { until } from "../support/wait.js";

const JOB = "job";
const ACCEPT = { accept: "text/event-stream" };

/** A server with one job of three stages. */
async function start(options: ServerOptions = {}): Promise<TestServer> {
  const server = await startServer(options);
  const stages = ["a", "b", "c"].map((stage) => ({ stage }));
  await server.monitor.publish({ type: "plan", jobId: JOB, name: "ü 😀", stages });
  return server;
}

const complete = (server: TestServer) =>
  server.monitor.publish({ type: "job", jobId: JOB, status: "completed" });

const texts = (payloads: readonly Buffer[]) => payloads.map(String);

describe("an event stream carries", () => {
  test.each(["full", "delta"] as const)(
    "the frames of a WebSocket in mode %s, byte for byte",
    async (mode) => {
      const server = await start();
      const ws = await server.watch(JOB, { mode });
      const stream = await server.stream(JOB, { mode });
      await ws.expect("snapshot");
      await stream.expect("snapshot");
      for (const message of ["plain", "ü 😀", "a\r\nb\n\nc", "\u2028 \\ \" ' \ufeff", ": x"]) {
        await server.monitor.publish({ type: "job", jobId: JOB, message });
      }
      for (const stage of ["a", "b", "c"]) {
        server.engine.emit("stage", { jobId: JOB, stage, status: "completed" });
      }
      const frames = await stream.readToEnd();
      expect(frames.map(({ type }) => type)).toEqual([...Array(8).fill("update"), "end"]);
      expect("patch" in (frames[0] ?? {})).toBe(mode === "delta");
      await ws.readToEnd();
      expect(texts(stream.payloads)).toEqual(texts(ws.payloads));
      expect(await stream.ended).toBe("complete");
      expect(stream.parser.rest).toBe(0);
    },
  );

  test("each frame's type as the event, its cursor as the id, and its text in one line", async () => {
    const server = await start();
    const stream = await server.stream(JOB);
    await stream.expect("snapshot");
    await server.monitor.publish({ type: "job", jobId: JOB, message: "one" });
    await complete(server);
    await stream.readToEnd();
    const expected = stream.frames.map((frame) => ({
      type: frame.type,
      id: "cursor" in frame ? frame.cursor : "none",
    }));
    expect(stream.events.map(({ type, id }) => ({ type, id }))).toEqual(expected);
    expect(expected.map(({ type }) => type)).toEqual(["snapshot", "update", "update", "end"]);
    const [first, ...blocks] = stream.raw.toString().split("\n\n");
    expect(first).toMatch(/^retry: \d+$/);
    expect(blocks).toEqual([
      ...stream.events.map(({ type, id, data }) => `event: ${type}\nid: ${id}\ndata: ${data}`),
      "",
    ]);
  });

  test("a time to come back after, 1 to 3 s, by chance", async () => {
    const server = await start();
    const streams = await Promise.all(range(1, 20).map(() => server.stream(JOB)));
    for (const stream of streams) await stream.expect("snapshot");
    const retries = streams.map(({ parser, raw }) => {
      expect(raw.toString().startsWith("retry: ")).toBe(true);
      expect(parser.retries).toHaveLength(1);
      return parser.retries[0] ?? 0;
    });
    expect(Math.min(...retries)).toBeGreaterThanOrEqual(1_000);
    expect(Math.max(...retries)).toBeLessThanOrEqual(3_000);
    expect(new Set(retries).size).toBeGreaterThan(5);
  });

  test("heartbeats, which move no cursor", async () => {
    const clock = new ManualClock();
    const server = await start({ clock, heartbeatMs: 25_000 });
    const stream = await server.stream(JOB);
    const { cursor } = await stream.expect("snapshot");
    for (const n of range(1, 3)) {
      clock.advance(25_000);
      await until("the beat comes", () => stream.events.length === 1 + n);
      expect(stream.events[n]).toMatchObject({ type: "heartbeat", id: undefined });
      expect(stream.frames[n]).toEqual({ type: "heartbeat", timestamp: expect.any(String) });
    }
    expect(stream.parser.lastEventId).toBe(cursor);
  });

  test("heartbeats in real time, too", async () => {
    const server = await start({ heartbeatMs: 100 });
    const stream = await server.stream(JOB);
    expect(await stream.expect("snapshot")).toMatchObject({ heartbeatMs: 100 });
    await until("five beats came", () => stream.events.length >= 6);
  });
});

describe("the head of an event stream", () => {
  test("keeps caches and proxies from touching it", async () => {
    const server = await start();
    const { headers } = await server.stream(JOB);
    expect(headers["content-type"]).toMatch(/^text\/event-stream(; ?charset=utf-8)?$/i);
    expect(headers["cache-control"]).toMatch(/no-cache|no-store/);
    expect(headers["x-accel-buffering"]).toBe("no");
    const vary = String(headers.vary).toLowerCase();
    for (const name of ["authorization", "cookie", "accept"]) expect(vary).toContain(name);
    expect("content-length" in headers).toBe(false);
    expect("etag" in headers).toBe(false);
  });

  test("keeps what the host's hooks have set", async () => {
    const server = await start({
      prepare: (app) =>
        app.addHook("onRequest", async (_request, reply) => {
          reply.header("access-control-allow-origin", "https://app.example");
          reply.header("set-cookie", ["a=1", "b=2"]);
          reply.header("vary", "Origin");
        }),
    });
    const { headers } = await server.stream(JOB);
    const polled = await server.poll(JOB);
    for (const { vary } of [headers, polled.headers]) expect(vary).toContain("Origin");
    expect(headers["access-control-allow-origin"]).toBe("https://app.example");
    expect(headers["set-cookie"]).toEqual(["a=1", "b=2"]);
    expect(headers["content-type"]).toMatch(/^text\/event-stream/);
  });

  test.each(["text/event-stream", "text/event-stream, */*;q=0.1", "TEXT/EVENT-STREAM"])(
    "answers Accept: %s",
    async (accept) => {
      const server = await start();
      const stream = await server.stream(JOB, {}, { accept });
      await stream.expect("snapshot");
    },
  );

  test.each([undefined, "*/*", "application/json"])("is JSON for Accept: %s", async (accept) => {
    const server = await start();
    const { headers } = await server.get(eventsPath(JOB), accept ? { accept } : {});
    expect(headers["content-type"]).toMatch(/^application\/json/);
  });
});

describe("who comes back to an event stream", () => {
  /** Cursors of six revisions; the plan is the first. */
  async function withHistory(server: TestServer): Promise<string[]> {
    const cursors = [printCursor(await server.settled(JOB))];
    for (const n of range(2, 6)) {
      const event = { type: "job", jobId: JOB, message: `${n}` } as const;
      cursors.push(printCursor(await server.monitor.publish(event)));
    }
    return cursors;
  }

  const messages = (stream: EventStream) =>
    stream.frames
      .flatMap((frame) => (frame.type === "snapshot" ? frame.events : []))
      .map((event) => (event as { message?: string }).message);

  const WAYS = [
    ["Last-Event-ID", 2, undefined, ["4", "5", "6"]],
    ["after", undefined, 3, ["5", "6"]],
    ["Last-Event-ID wins, older", 1, 4, ["3", "4", "5", "6"]],
    ["Last-Event-ID wins, newer", 4, 1, ["6"]],
    ["at the head", 5, undefined, []],
  ] as const;
  test.each(WAYS)("gets what was missed: %s", async (_name, last, after, missed) => {
    const server = await start();
    const cursors = await withHistory(server);
    const stream = await server.stream(
      JOB,
      after === undefined ? {} : { after: cursors[after] ?? "" },
      last === undefined ? {} : { "last-event-id": cursors[last] },
    );
    expect(await stream.expect("snapshot")).toMatchObject({ resumed: true, cursor: cursors[5] });
    expect(messages(stream)).toEqual(missed);
    // The same frame as a WebSocket that comes back from there.
    const ws = await server.watch(JOB, { after: cursors[last ?? after ?? 0] ?? "" });
    await ws.expect("snapshot");
    expect(stream.text).toBe(ws.text);
    await server.monitor.publish({ type: "job", jobId: JOB, message: "7" });
    expect((await stream.expect("update")).job?.message).toBe("7");
  });

  test("misses nothing and gets nothing twice, however often it is cut", async () => {
    const server = await start();
    const seen: (string | undefined)[] = [];
    let last = "";
    for (const n of range(1, 40)) {
      const stream = await server.stream(JOB, {}, last ? { "last-event-id": last } : {});
      await stream.expect("snapshot");
      server.engine.emit("job", { jobId: JOB, message: `${2 * n}` });
      await stream.expect("update");
      stream.abort();
      await server.monitor.publish({ type: "job", jobId: JOB, message: `${2 * n + 1}` });
      for (const frame of stream.frames) {
        const events =
          frame.type === "snapshot" ? frame.events : frame.type === "update" ? [frame.event] : [];
        seen.push(...events.map((event) => (event as { message?: string }).message));
      }
      last = stream.parser.lastEventId;
    }
    expect(seen).toEqual(range(2, 80).map(String)); // nobody came back for the last one
  });
});

describe("the end of a job", () => {
  test("ends the stream, which leaves nothing", async () => {
    const server = await start();
    const joins: ViewerEvent[] = [];
    const left: LeaveEvent[] = [];
    server.monitor.on("join", (event) => joins.push(event));
    server.monitor.on("leave", (event) => left.push(event));
    const stream = await server.stream(JOB);
    await stream.expect("snapshot");
    expect(server.monitor.stats().viewers).toMatchObject({ ws: 0, sse: 1, longPoll: 0 });
    expect(joins).toMatchObject([{ jobId: JOB, transport: "sse" }]);
    await complete(server);
    await stream.readToEnd();
    expect(await stream.ended).toBe("complete");
    await until("it has left", () => server.monitor.stats().viewers.sse === 0);
    expect(left).toMatchObject([{ jobId: JOB, transport: "sse", code: 1000, delivered: 1 }]);
    expect(left[0]?.viewer).toBe(joins[0]?.viewer);
    const lines = server.lines.filter(({ message }) => message === "viewer disconnected");
    expect(lines).toMatchObject([{ level: "info", context: { jobId: JOB, transport: "sse" } }]);
  });

  test.each(["after", "last-event-id"])("is 204 for who has it already: %s", async (how) => {
    const server = await start();
    const end = printCursor(await complete(server));
    const { status, text, headers } =
      how === "after"
        ? await server.get(eventsPath(JOB, { after: end }), ACCEPT)
        : await server.get(eventsPath(JOB), { ...ACCEPT, [how]: end });
    expect({ status, text }).toEqual({ status: 204, text: "" });
    expect("content-type" in headers).toBe(false);
    expect(headers["cache-control"]).toMatch(/no-cache|no-store/);
    expect(server.monitor.stats().viewers.sse).toBe(0);
  });

  test.each([
    ["no cursor", () => "", false],
    ["an older cursor", (epoch: string) => `${epoch}.1`, true],
    ["a cursor of another epoch", () => "zzzzzzzzzzzz.2", false],
    ["garbage", () => "garbage", false],
  ])("is a snapshot and the end for who has not: %s", async (_name, make, resumed) => {
    const server = await start();
    const { epoch } = await complete(server);
    const after = make(epoch);
    const stream = await server.stream(JOB, after ? { after } : {});
    const frames = await stream.readToEnd();
    expect(frames).toMatchObject([
      { type: "snapshot", done: true, resumed, events: { length: resumed ? 1 : 0 } },
      { type: "end", status: "completed" },
    ]);
    expect(await stream.ended).toBe("complete");
  });

  test("is none any more after a restart: who had it is served the next run", async () => {
    const server = await start();
    const end = printCursor(await complete(server));
    await server.monitor.publish({ type: "job", jobId: JOB, run: 2, status: "running" });
    const stream = await server.stream(JOB, {}, { "last-event-id": end });
    expect(await stream.expect("snapshot")).toMatchObject({
      resumed: true,
      done: false,
      events: [{ type: "job", run: 2 }],
    });
  });
});

describe("an event stream that cannot be", () => {
  /** Asserts that this is a problem document, and no stream. */
  async function refused(server: TestServer, path: string, status: number, code: string) {
    const answer = await server.get(path, ACCEPT);
    expect(answer.status).toBe(status);
    expect(answer.headers["content-type"]).toMatch(/^application\/problem\+json/);
    expect(answer.headers["cache-control"]).toBe("no-store");
    expect(answer.json()).toMatchObject({ type: "about:blank", status, code });
    return answer;
  }

  test.each(["nonsense", "", "FULL", "full&mode=delta"])("of mode=%s is 400", async (mode) => {
    const server = await start();
    await refused(server, `/jobs/${JOB}/events?mode=${mode}`, 400, "bad_request");
  });

  test("of an unknown job and of a forbidden one is 404, the same one", async () => {
    const server = await start({ authorize: ({ jobId }) => jobId !== "secret" });
    await server.monitor.publish({ type: "job", jobId: "secret", status: "running" });
    const [unknown, secret] = [
      await refused(server, "/jobs/unknown/events", 404, "unknown_job"),
      await refused(server, "/jobs/secret/events", 404, "unknown_job"),
    ];
    expect(secret.text).toBe(unknown.text);
    expect(Object.keys(secret.headers)).toEqual(Object.keys(unknown.headers));
    await refused(server, "/jobs/__proto__/events", 404, "unknown_job");
    expect(server.monitor.stats()).toMatchObject({ rooms: 0, viewers: { sse: 0 } });
  });

  test("because authorize fails is 503", async () => {
    const server = await start({ authorize: () => Promise.reject(new Error("secret reason")) });
    const { text } = await refused(server, eventsPath(JOB), 503, "unavailable");
    expect(text).not.toContain("secret reason");
  });

  test("because present throws is 500, and leaves nobody", async () => {
    const server = await start({
      present: () => {
        throw new Error("secret reason");
      },
    });
    const { text } = await refused(server, eventsPath(JOB), 500, "internal");
    expect(text).not.toContain("secret reason");
    await until("nobody is left", () => server.monitor.stats().viewers.sse === 0);
  });

  test("because there are too many viewers is 429", async () => {
    const server = await start({ limits: { viewersPerJob: 2 } });
    const ws = await server.watch(JOB);
    await ws.expect("snapshot");
    const stream = await server.stream(JOB);
    await stream.expect("snapshot");
    await refused(server, eventsPath(JOB), 429, "too_many_viewers");
    stream.abort();
    await until("one has left", () => server.monitor.stats().viewers.sse === 0);
    await (await server.stream(JOB)).expect("snapshot");
  });

  test("because the server goes is 503", async () => {
    const server = await start();
    await server.monitor.drain();
    await refused(server, eventsPath(JOB), 503, "draining");
  });
});

test("authorize is told that it is an event stream", async () => {
  const requests: unknown[] = [];
  const server = await start({
    authorize: ({ jobId, action, transport, headers, query, remoteAddress }) => {
      const token = headers.authorization;
      requests.push({ jobId, action, transport, token, query, remoteAddress });
      return true;
    },
  });
  const stream = await server.stream(JOB, { x: "1" } as object, { authorization: "me" });
  await stream.expect("snapshot");
  await turns();
  expect(requests).toEqual([
    {
      jobId: JOB,
      action: "watch",
      transport: "sse",
      token: "me",
      query: { x: "1" },
      remoteAddress: "127.0.0.1",
    },
  ]);
});
