import { type Frame, printCursor } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { ManualClock } from "../support/clock.js";
import { as, type FrameOf, range } from "../support/frames.js";
import { rawConnect } from "../support/raw.js";
import { eventsPath, type TestServer } from "../support/server.js";
import { openSubscriber, send, subscribe } from "../support/subscriber.js";
import { until } from "../support/wait.js";
import { JOB, startWatched } from "../support/watched.js";

type First = Omit<FrameOf<"snapshot">, "type" | "heartbeatMs">;

/** What a viewer gets first that comes with this cursor, over each transport. */
const TRANSPORTS: Record<string, (server: TestServer, after: string) => Promise<First>> = {
  "the URL of a WebSocket": async (server, after) =>
    (await server.watch(JOB, { after })).expect("snapshot"),
  subscribe: async (server, after) => {
    const viewer = await openSubscriber(server);
    send(viewer, subscribe(JOB, { after }));
    return viewer.expect("snapshot");
  },
  "an event stream, after": async (server, after) =>
    (await server.stream(JOB, { after })).expect("snapshot"),
  "an event stream, Last-Event-ID": async (server, after) =>
    (await server.stream(JOB, {}, { "last-event-id": after })).expect("snapshot"),
  "a poll for events, after": async (server, after) => first(server, eventsPath(JOB, { after })),
  "a poll for events, If-None-Match": async (server, after) =>
    first(server, eventsPath(JOB), `"${after}"`),
  "a long-poll for events, after": async (server, after) =>
    first(server, `${eventsPath(JOB, { after })}&wait=20`),
  "a long-poll for events, If-None-Match": async (server, after) =>
    first(server, `${eventsPath(JOB)}?wait=20`, `"${after}"`),
  "a poll for the job": async (server, after) => job(server, `/jobs/${JOB}`, `"${after}"`),
  "a long-poll for the job": async (server, after) =>
    job(server, `/jobs/${JOB}?wait=20`, `"${after}"`),
};

async function first(server: TestServer, path: string, tag?: string): Promise<First> {
  const { status, json } = await server.get(
    path,
    tag === undefined ? {} : { "if-none-match": tag },
  );
  expect(status).toBe(200);
  return as("snapshot", json<Frame>());
}

async function job(server: TestServer, path: string, tag: string): Promise<First> {
  const { status, json } = await server.get(path, { "if-none-match": tag });
  expect(status).toBe(200);
  const found = json<First["job"]>();
  const cursor = printCursor(found);
  return { jobId: JOB, cursor, done: found.done, resumed: false, events: [], job: found };
}

type Make = (epoch: string, other: string) => string;

/** Answered at once: no store could know them. */
const GARBAGE: Record<string, Make> = {
  "a negative revision": (epoch) => `${epoch}.-1`,
  NaN: (epoch) => `${epoch}.NaN`,
  Infinity: (epoch) => `${epoch}.Infinity`,
  "2^53 + 1": (epoch) => `${epoch}.9007199254740993`,
  "a fraction": (epoch) => `${epoch}.0.5`,
  "a leading zero": (epoch) => `${epoch}.01`,
  "a space": (epoch) => `${epoch}. 1`,
  "no revision": (epoch) => `${epoch}.`,
  "no epoch": () => ".1",
  "a word": () => "__proto__",
  "10 KB": (epoch) => `${epoch}.${"1".repeat(10_240)}`,
  // In a header or a message these cannot be.
  "a NUL": (epoch) => `${epoch}.1\0`,
  "a line break": (epoch) => `${epoch}.1\r\nid: x`,
  "not ASCII": (epoch) => `${epoch}.١`,
};

/** Answered after a look at the store. */
const FOREIGN: Record<string, Make> = {
  "one ahead of the head": (epoch) => `${epoch}.2`,
  "2^53 - 1, ahead of the head": (epoch) => `${epoch}.9007199254740991`,
  "another job's": (_, other) => other,
  "another epoch's": () => "zzzzzzzzzzzz.1",
};

describe.each(Object.entries(TRANSPORTS))("a cursor that is nobody's in %s", (transport, ask) => {
  const inUrl = /URL|after/.test(transport);
  const fits = (text: string) =>
    inUrl || (/^[\x20-\x7e]*$/.test(text) && (transport !== "subscribe" || text.length < 4_000));

  async function areLikeNone(makes: Record<string, Make>): Promise<void> {
    const { server, undisturbed } = await startWatched();
    const { epoch } = await server.settled(JOB);
    const other = await server.monitor.publish({ type: "job", jobId: "other", status: "running" });
    const expected = await server.monitor.get(JOB);
    for (const [name, make] of Object.entries(makes)) {
      const after = make(epoch, printCursor(other));
      if (!fits(after)) continue;
      const { resumed, events, cursor, job } = await ask(server, after);
      expect({ name, resumed, events, cursor }).toEqual({
        name,
        resumed: false,
        events: [],
        cursor: `${epoch}.1`,
      });
      expect(job).toEqual(expected);
    }
    await undisturbed();
  }

  test("is like none: garbage", () => areLikeNone(GARBAGE));

  test.each(Object.entries(FOREIGN))("is like none: %s", (name, make) =>
    areLikeNone({ [name]: make }),
  );
});

describe("a parameter that is there twice", () => {
  const REFUSED = [
    "/jobs/job?wait=1&wait=2",
    "/jobs/job/events?wait=1&wait=2",
    "/jobs/job/events?after=a&after=b",
    "/jobs/job/events?mode=full&mode=delta",
  ];
  test.each(REFUSED)("is refused over HTTP: %s", async (path) => {
    const { server, undisturbed } = await startWatched();
    for (const accept of ["application/json", "text/event-stream"]) {
      const { status, headers, json } = await server.get(path, { accept });
      expect(status).toBe(400);
      expect(headers["content-type"]).toMatch(/^application\/problem\+json/);
      expect(json()).toMatchObject({ code: "bad_request" });
    }
    await undisturbed();
  });

  test("is one of the two in the URL of a WebSocket", async () => {
    const { server, undisturbed } = await startWatched();
    const { epoch } = await server.settled(JOB);
    const path = `${server.wsUrl(JOB)}&after=${epoch}.1&after=garbage`;
    const viewer = await openSubscriber(server, path);
    expect(await viewer.expect("snapshot")).toMatchObject({ jobId: JOB, events: [] });
    await undisturbed();
  });
});

describe.each(["", "?wait=20"])("If-None-Match of %j", (query) => {
  const paths = [`/jobs/${JOB}${query}`, `/jobs/${JOB}/events${query}`];

  test("may be a thousand tags", async () => {
    const clock = new ManualClock();
    const { server, undisturbed } = await startWatched({ clock, heartbeatMs: 600_000 });
    const { etag = "" } = (await server.poll(JOB)).headers;
    const others = range(1, 1_000).map((n) => `W/"${n}"`);
    for (const path of paths) {
      const without = await server.get(path, { "if-none-match": others.join(", ") });
      expect(without.status).toBe(200);
      const answer = server.get(path, { "if-none-match": [...others, etag].join(",") });
      if (query) {
        await until("it waits", () => server.monitor.stats().viewers.longPoll === 1);
        clock.advance(25_000);
      }
      expect((await answer).status).toBe(304);
    }
    await undisturbed();
  });

  const STRANGE: [string, string][] = [
    ["one quote", '"'],
    ["8,000 quotes", '"'.repeat(8_000)],
    ["8,001 quotes", '"'.repeat(8_001)],
    ["unbalanced at the end", '"a", "b'],
    ["unbalanced at the beginning", 'a", "b"'],
    ["no quotes", "a, b"],
    ["only commas", ",".repeat(8_000)],
    ["only weak", "W/".repeat(4_000)],
    ["dashes", `"${"-".repeat(8_000)}"`],
    ["spaces", `"a"${" ".repeat(8_000)}x`],
  ];
  test("that makes no sense fits nothing", async () => {
    const { server, undisturbed } = await startWatched();
    for (const [name, tags] of STRANGE) {
      for (const path of paths) {
        const { status } = await server.get(path, { "if-none-match": tags });
        expect({ name, path, status }).toEqual({ name, path, status: 200 });
      }
    }
    await undisturbed();
  });

  test("that is longer than Node reads is 431", async () => {
    const { server, undisturbed } = await startWatched();
    for (const path of paths) {
      const client = await rawConnect(server.port);
      const tags = range(1, 10_000).map((n) => `"${n}"`);
      client.socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: ${tags}\r\n\r\n`);
      await until("it is refused", () => client.ended());
      expect(client.text()).toMatch(/^HTTP\/1\.1 431 /);
    }
    await undisturbed();
  });
});

test.each(["/jobs/job", "/jobs/job/events"])(
  "?wait that is no number from 0 is 400: %s",
  async (path) => {
    const { server, undisturbed } = await startWatched();
    const { etag = "" } = (await server.poll(JOB)).headers;
    for (const wait of ["-1", "-0.001", "abc", "", "NaN", "1,5", "{}", "null", "20s", "%00"]) {
      const answer = await server.get(`${path}?wait=${wait}`, { "if-none-match": etag });
      expect({ wait, status: answer.status }).toEqual({ wait, status: 400 });
      expect(answer.headers["content-type"]).toMatch(/^application\/problem\+json/);
      expect(answer.headers["cache-control"]).toBe("no-store");
      expect(answer.json()).toMatchObject({ code: "bad_request", status: 400 });
    }
    expect(server.monitor.stats().viewers.longPoll).toBe(0);
    await undisturbed();
  },
);
