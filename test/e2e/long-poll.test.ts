import { printCursor, type ViewerEvent } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { ManualClock, turns } from "../support/clock.js";
import { range } from "../support/frames.js";
import { untilGone } from "../support/hooks.js";
import type { Answer } from "../support/http.js";
import { rawConnect } from "../support/raw.js";
import { type ServerOptions, startServer, type TestServer } from "../support/server.js";
import { countingStore } from "../support/stores.js";
import { inTime, until } from "../support/wait.js";

const JOB = "job";

/** A server on a clock that the test moves, with one job. */
async function start(options: ServerOptions = {}) {
  const clock = new ManualClock();
  const server = await startServer({ clock, heartbeatMs: 600_000, ...options });
  const cursor = await server.monitor.publish({ type: "job", jobId: JOB, status: "running" });
  return { clock, server, cursor: printCursor(cursor) };
}

const publish = async (server: TestServer, message: string) =>
  printCursor(await server.monitor.publish({ type: "job", jobId: JOB, message }));

/** When this many polls wait. */
const waiting = (server: TestServer, count: number) =>
  until(`${count} polls wait`, () => server.monitor.stats().viewers.longPoll === count);

type Ask = (server: TestServer, cursor: string, wait?: number | string) => Promise<Answer>;

/** The three ways to wait, and what they are answered when that takes too long, or no time at all. */
const WAYS: [string, { ask: Ask; late: number; zero: number; of: "job" | "events" }][] = [
  [
    "/jobs/:id with If-None-Match",
    {
      ask: (server, cursor, wait = 20) =>
        server.get(`/jobs/${JOB}?wait=${wait}`, { "if-none-match": `"${cursor}"` }),
      late: 304,
      zero: 304,
      of: "job",
    },
  ],
  [
    "/jobs/:id/events with after",
    {
      ask: (server, cursor, wait = 20) =>
        server.get(`/jobs/${JOB}/events?after=${cursor}&wait=${wait}`),
      late: 204,
      zero: 200,
      of: "events",
    },
  ],
  [
    "/jobs/:id/events with If-None-Match",
    {
      ask: (server, cursor, wait = 20) =>
        server.get(`/jobs/${JOB}/events?wait=${wait}`, { "if-none-match": `"${cursor}"` }),
      late: 304,
      zero: 304,
      of: "events",
    },
  ],
];

describe.each(WAYS)("[D6] a poll of %s that waits", (_name, { ask, late, zero, of }) => {
  test("is answered as soon as there is something, with everybody's bytes", async () => {
    const { server, cursor } = await start();
    const ws = await server.watch(JOB);
    await ws.expect("snapshot");
    const answer = ask(server, cursor);
    await waiting(server, 1);
    const next = await publish(server, "ü 😀");
    const { status, headers, text } = await answer;
    expect(status).toBe(200);
    expect(headers.etag).toBe(`"${next}"`);
    expect(headers["content-type"]).toMatch(/^application\/json/);
    await ws.expect("update");
    if (of === "job") expect(ws.text).toContain(`"job":${text}`);
    else {
      const back = await server.watch(JOB, { after: cursor });
      expect(await back.expect("snapshot")).toMatchObject({ resumed: true, events: { length: 1 } });
      expect(text).toBe(back.text);
    }
    await waiting(server, 0);
  });

  test("is answered after its time, not before four fifths of it", async () => {
    const { clock, server, cursor } = await start();
    const answeredAt: number[] = [];
    const from = clock.now();
    const answers = range(1, 30).map(async () => {
      const answer = await ask(server, cursor, 10);
      answeredAt.push(clock.now() - from);
      return answer;
    });
    await waiting(server, 30);
    clock.advance(7_999);
    await turns();
    await waiting(server, 30);
    for (const _ of range(1, 4)) {
      clock.advance(500);
      await server.poll("unknown"); // a round trip: who was answered has his answer
      await turns(10);
    }
    clock.advance(1);
    for (const { status, headers, text } of await Promise.all(answers)) {
      expect({ status, text }).toEqual({ status: late, text: "" });
      expect(headers.etag).toBe(`"${cursor}"`);
    }
    expect(Math.max(...answeredAt)).toBeLessThanOrEqual(10_000);
    expect(new Set(answeredAt).size).toBeGreaterThan(1);
    await waiting(server, 0);
  });

  test.each(["1000", "1e9", "1e999"])("waits 25 s at most: %s", async (wait) => {
    const { clock, server, cursor } = await start();
    const answer = ask(server, cursor, wait);
    await waiting(server, 1);
    clock.advance(19_999);
    await turns();
    await waiting(server, 1);
    clock.advance(5_001);
    expect((await answer).status).toBe(late);
  });

  test("of 0 s is one that does not wait, of half a second one that does", async () => {
    const { clock, server, cursor } = await start();
    expect((await ask(server, cursor, 0)).status).toBe(zero);
    const answer = ask(server, cursor, 0.5);
    await waiting(server, 1);
    clock.advance(500);
    expect((await answer).status).toBe(late);
  });

  test("is answered at once when the cursor is not the head", async () => {
    const server = await startServer(); // in real time: a room looks at the store once a second
    const { epoch } = await server.monitor.publish({ type: "job", jobId: JOB, message: "one" });
    const cursor = `${epoch}.1`;
    const head = await publish(server, "two");
    for (const old of [cursor, `${epoch}.0`, "zzzzzzzzzzzz.2", `${epoch}.99`, "garbage"]) {
      const { status, headers } = await ask(server, old);
      expect({ old, status, etag: headers.etag }).toEqual({ old, status: 200, etag: `"${head}"` });
    }
    expect(server.monitor.stats().viewers.longPoll).toBe(0);
  }, 15_000);

  test("is answered at once when the job is over", async () => {
    const { server } = await start();
    const end = await server.monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    const { status, headers } = await ask(server, printCursor(end));
    expect(status).toBe(late);
    expect("retry-after" in headers).toBe(false);
  });

  test("is answered when the job ends, with done", async () => {
    const { server, cursor } = await start();
    const answer = ask(server, cursor);
    await waiting(server, 1);
    await server.monitor.publish({ type: "job", jobId: JOB, status: "failed" });
    const { status, headers, json } = await answer;
    expect({ status, done: json().done }).toEqual({ status: 200, done: true });
    expect("retry-after" in headers).toBe(false);
  });

  test.each(["monitor.drain()", "app.close()"])("is answered at once on %s", async (how) => {
    const { server, cursor } = await start();
    const answers = range(1, 10).map(() => ask(server, cursor));
    await waiting(server, 10);
    await inTime(how, how === "app.close()" ? server.app.close() : server.monitor.drain());
    for (const answer of answers) expect((await answer).status).toBe(late);
    expect(server.monitor.stats()).toMatchObject({ rooms: 0, viewers: { longPoll: 0 } });
  });

  test("is no join and no leave, and no line in the log", async () => {
    const { clock, server, cursor } = await start();
    const seen: ViewerEvent[] = [];
    server.monitor.on("join", (event) => seen.push(event));
    server.monitor.on("leave", (event) => seen.push(event));
    const [changed, timedOut] = [ask(server, cursor), ask(server, cursor)];
    await waiting(server, 2);
    const next = await publish(server, "two");
    await Promise.all([changed, timedOut]);
    const late = ask(server, next);
    await waiting(server, 1);
    clock.advance(25_000);
    await late;
    await waiting(server, 0);
    expect(seen).toEqual([]);
    expect(server.lines).toEqual([]);
  });

  test("counts among the viewers of its job, and is told apart by authorize", async () => {
    const transports: string[] = [];
    const { server, cursor } = await start({
      limits: { viewersPerJob: 1 },
      authorize: ({ transport }) => transports.push(transport) > 0,
    });
    const answer = ask(server, cursor);
    await waiting(server, 1);
    const second = await ask(server, cursor);
    expect(second.status).toBe(429);
    expect(second.json()).toMatchObject({ code: "too_many_viewers" });
    expect(server.monitor.stats().viewers).toEqual({ ws: 0, sse: 0, longPoll: 1, watch: 0 });
    await publish(server, "two");
    expect((await answer).status).toBe(200);
    expect(transports).toEqual(["long-poll", "long-poll"]);
  });

  test("of an unknown job, or of a forbidden one, is 404 at once", async () => {
    const { server, cursor } = await start({ authorize: () => false });
    const { status, json } = await ask(server, cursor);
    expect(status).toBe(404);
    expect(json()).toMatchObject({ code: "unknown_job" });
  });

  test("leaves nothing behind when it is aborted", async () => {
    const store = countingStore();
    const { clock, server, cursor } = await start({ store: store.store });
    const timers = clock.timers;
    const path = of === "job" ? `/jobs/${JOB}?wait=20` : `/jobs/${JOB}/events?wait=20`;
    const clients = await Promise.all(range(1, 10).map(() => rawConnect(server.port)));
    for (const { socket } of clients) {
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: "${cursor}"\r\n\r\n`);
    }
    await waiting(server, 10);
    expect(store.counts.following).toBe(1);
    for (const { socket } of clients) socket.destroy();
    await waiting(server, 0);
    clock.advance(5_000); // the room lingers
    await until("nothing follows the job", () => store.counts.following === 0);
    expect(server.monitor.stats()).toMatchObject({ rooms: 0, parked: 0, pinnedBytes: 0 });
    expect(clock.timers).toBe(timers);
  });

  test("leaves nothing behind when it is aborted while a hook of the host is at work", async () => {
    const hook = untilGone();
    const prepare: ServerOptions["prepare"] = (app) => app.addHook("preHandler", hook.run);
    const { store, counts } = countingStore();
    const { clock, server, cursor } = await start({ store, prepare });
    const timers = clock.timers;
    const path = of === "job" ? `/jobs/${JOB}?wait=20` : `/jobs/${JOB}/events?wait=20`;
    const { socket } = await rawConnect(server.port);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: "${cursor}"\r\n\r\n`);
    await until("the hook is at work", () => hook.asked === 1);
    socket.destroy();
    await until("it came to the room", () => hook.done === 1 && counts.following === 1);
    await turns();
    expect(server.monitor.stats().viewers.longPoll).toBe(0);
    clock.advance(5_000); // the room lingers
    expect(server.monitor.stats().rooms).toBe(0);
    expect(clock.timers).toBe(timers);
  });

  test("[D10] costs no read of the store, however many there are and come again", async () => {
    const { store, counts } = countingStore();
    const { server, cursor } = await start({ store });
    let last = cursor;
    counts.reads = 0;
    for (const round of range(1, 3)) {
      const answers = range(1, 50).map(() => ask(server, last));
      await waiting(server, 50);
      last = await publish(server, `round ${round}`);
      const bodies = new Set((await Promise.all(answers)).map(({ text }) => text));
      expect(bodies.size).toBe(1);
      expect([...bodies][0]).toContain(`round ${round}`);
    }
    expect(counts.reads).toBeLessThanOrEqual(2); // the opening of the room
    expect(counts.follows).toBe(1);
  });

  test("brings a big job to all of them", async () => {
    const { server } = await start();
    const stages = range(1, 600).map((n) => ({ stage: `stage ${n}`, name: "n".repeat(200) }));
    const planned = await server.monitor.publish({ type: "plan", jobId: JOB, stages });
    const answers = range(1, 40).map(() => ask(server, printCursor(planned)));
    await waiting(server, 40);
    await publish(server, "two");
    const all = await Promise.all(answers);
    const [first] = all as [Answer];
    expect(first.body.length).toBeGreaterThan(128 * 1_024);
    expect(first.headers["content-length"]).toBe(String(first.body.length));
    for (const { body } of all) expect(body.equals(first.body)).toBe(true);
    if (of === "job") expect(first.text).toBe((await server.poll(JOB)).text);
  });
});

describe("without a cursor there is nothing to wait for", () => {
  test.each([
    `/jobs/${JOB}?wait=20`,
    `/jobs/${JOB}/events?wait=20`,
    `/jobs/${JOB}/events?wait=20&after=`,
  ])("%s", async (path) => {
    const { server, cursor } = await start();
    const { status, headers } = await server.get(path);
    expect({ status, etag: headers.etag }).toEqual({ status: 200, etag: `"${cursor}"` });
  });
});

describe.each([`/jobs/${JOB}`, `/jobs/${JOB}/events`])("If-None-Match of %s?wait", (path) => {
  const WAITING: [string, (tag: string) => string][] = [
    ["weak", (tag) => `W/${tag}`],
    ["among others", (tag) => `"zzzzzzzzzzzz.1", W/"x", ${tag}`],
    ["in front of others", (tag) => `${tag}, "a,b"`],
    ["twice", (tag) => `${tag}, W/${tag}`],
  ];
  test.each(WAITING)("that has the head's tag waits: %s", async (_name, make) => {
    const { clock, server, cursor } = await start();
    const headers = { "if-none-match": make(`"${cursor}"`) };
    const late = server.get(`${path}?wait=20`, headers);
    await waiting(server, 1);
    clock.advance(20_000);
    expect((await late).status).toBe(304);
    const changed = server.get(`${path}?wait=20`, headers);
    await waiting(server, 1);
    await publish(server, "two");
    expect((await changed).status).toBe(200);
  });

  const NEWS = ['"zzzzzzzzzzzz.1"', '"a", W/"b"', '"', "x", ",", '"unbalanced'];
  test.each(NEWS)("that has it not is answered at once: %s", async (tags) => {
    const { server, cursor } = await start();
    const { status, headers } = await server.get(`${path}?wait=20`, { "if-none-match": tags });
    expect({ status, etag: headers.etag }).toEqual({ status: 200, etag: `"${cursor}"` });
  });

  test("that has an older tag, too, is answered at once only if the head's is not there", async () => {
    const { clock, server, cursor: old } = await start();
    const head = await publish(server, "two");
    const behind = await server.get(`${path}?wait=20`, { "if-none-match": `"${old}", "x"` });
    expect(behind.status).toBe(200);
    const both = server.get(`${path}?wait=20`, { "if-none-match": `"${old}", "${head}"` });
    await waiting(server, 1);
    clock.advance(20_000);
    expect((await both).status).toBe(304);
  });

  test("that is * fits whatever there is", async () => {
    const { clock, server } = await start();
    const answer = server.get(`${path}?wait=20`, { "if-none-match": "*" });
    await server.poll(JOB);
    await turns();
    clock.advance(25_000);
    expect((await answer).status).toBe(304);
  });
});

test("a tag of another version of the host's shape is answered at once", async () => {
  const { store } = countingStore();
  const present = (job: object) => ({ shape: 1, ...job });
  const { server: old } = await start({ store, present, presentVersion: "1" });
  const { server } = await start({ store, present, presentVersion: "2" });
  const { etag = "" } = (await old.poll(JOB)).headers;
  const { status, headers } = await server.get(`/jobs/${JOB}?wait=20`, { "if-none-match": etag });
  expect(status).toBe(200);
  expect(headers.etag).not.toBe(etag);
  const waits = server.get(`/jobs/${JOB}?wait=20`, { "if-none-match": headers.etag });
  await waiting(server, 1);
  await publish(server, "two");
  expect((await waits).json()).toMatchObject({ shape: 1, message: "two" });
});
