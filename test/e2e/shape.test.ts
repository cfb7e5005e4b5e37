import {
  type Cursor,
  type Frame,
  type JobPage,
  type JobSnapshot,
  memoryStore,
  type PublishedEvent,
  printCursor,
  type UpdateEvent,
} from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { range } from "../support/frames.js";
import { eventsPath, type ServerOptions, startServer } from "../support/server.js";

const JOB = "job";
const at = (second: number) => new Date(Date.UTC(2026, 2, 1, 12, 0, second)).toISOString();
const present = ({ jobId, status }: JobSnapshot) => ({ id: jobId, state: status.toUpperCase() });

/** A server whose job has had a plan and an event of its first stage. */
async function startShaped(options: ServerOptions = {}) {
  const server = await startServer({ present, ...options });
  const stages = [{ stage: "build" }, { stage: "test" }];
  const publish = (event: object) =>
    server.monitor.publish({ jobId: JOB, ...event } as PublishedEvent);
  const first = await publish({ type: "plan", stages, timestamp: at(0) });
  await publish({ type: "stage", stage: "build", status: "running", timestamp: at(1) });
  return { server, publish, first };
}

describe("[S6] [R16] events of a shaped job", () => {
  const said = (second: number) => ({ type: "job", timestamp: at(second) });

  test("say in update frames that something happened and when, on each transport and in each mode", async () => {
    const { server, publish } = await startShaped();
    const viewers = [
      await server.watch(JOB),
      await server.watch(JOB, { mode: "delta" }),
      await server.stream(JOB),
    ];
    for (const viewer of viewers) await viewer.expect("snapshot");
    const watched = server.monitor.watch(JOB);
    await watched.next();
    await publish({ type: "stage", stage: "build", message: "m", id: "e", timestamp: at(2) });
    const frames: Frame[] = [(await watched.next()).value];
    for (const viewer of viewers) frames.push(await viewer.expect("update"));
    for (const frame of frames) {
      const job = { id: JOB, state: "RUNNING" };
      expect(frame).toMatchObject({ type: "update", event: said(2), job });
      expect(frame).not.toHaveProperty("patch");
      expect("event" in frame && Object.keys(frame.event)).toEqual(["type", "timestamp"]);
    }
    await watched.return?.();
  });

  test("keep their number and order for a viewer that comes back with a cursor", async () => {
    const store = memoryStore();
    const { server, publish, first } = await startShaped({ store });
    for (const second of [2, 3, 4])
      await publish({ type: "stage", stage: "test", message: `m${second}`, timestamp: at(second) });
    const late = await startServer({ present, store });
    for (const { get } of [server, late]) {
      const frame = (await get(eventsPath(JOB, { after: printCursor(first) }))).json();
      expect(frame).toMatchObject({ resumed: true, events: [1, 2, 3, 4].map(said) });
    }
  });

  test("stay whole in the host's own view", async () => {
    const updates: UpdateEvent[] = [];
    const { server, publish } = await startShaped();
    server.monitor.on("update", (update) => updates.push(update));
    await publish({ type: "stage", stage: "build", message: "m", labels: {} });
    expect(updates).toMatchObject([{ event: { stage: "build", message: "m" }, job: { run: 1 } }]);
    const { jobs } = await server.monitor.list();
    expect(jobs).toMatchObject([{ jobId: JOB, currentStage: "build", counts: { total: 2 } }]);
    expect(await server.monitor.get(JOB)).toMatchObject({ stages: [{ message: "m" }, {}] });
  });

  test("are told without a time when the store holds a text that is no JSON", async () => {
    const { read, ...store } = memoryStore();
    const damaged: typeof read = async (...asked) => {
      const record = await read(...asked);
      return record?.events ? { ...record, events: record.events.map(() => "{secret") } : record;
    };
    const { server, first } = await startShaped({ store: { ...store, read: damaged } });
    const frame = (await server.get(eventsPath(JOB, { after: printCursor(first) }))).json();
    expect(frame).toMatchObject({ resumed: true, events: [{ type: "job" }] });
  });
});

describe("[S6] [R16] the list of shaped jobs", () => {
  const publishAll = async (
    { monitor }: Awaited<ReturnType<typeof startServer>>,
    ids: readonly string[],
  ) => {
    const cursors: Cursor[] = [];
    for (const [second, jobId] of ids.entries())
      cursors.push(await monitor.publish({ type: "job", jobId, timestamp: at(second) }));
    return cursors;
  };

  test("has as rows what a poll of each job answers, made from the whole job", async () => {
    const server = await startServer({
      present: ({ jobId, stages }) => ({ id: jobId, build: stages[0]?.metadata ?? "ü" }),
    });
    await publishAll(server, ["a", "b"]);
    const metadata = { done: ["x"] };
    await server.monitor.publish({ type: "stage", jobId: "a", stage: "build", metadata });
    const rows = [(await server.poll("b")).text, (await server.poll("a")).text];
    const { headers, text } = await server.get("/jobs");
    expect(text).toBe(`{"jobs":[${rows}],"next":null}`);
    expect(headers["content-type"]).toBe("application/json; charset=utf-8");
    expect(rows).toEqual(['{"id":"b","build":"ü"}', '{"id":"a","build":{"done":["x"]}}']);
  });

  test("leaves out a job for which present throws or returns nothing, and says so once in the log", async () => {
    const server = await startServer({
      present: ({ jobId }) => {
        if (jobId === "throws") throw new Error("of the host");
        return jobId === "nothing" ? undefined : { jobId };
      },
    });
    await publishAll(server, ["a", "throws", "nothing", "b"]);
    expect((await server.get("/jobs")).text).toBe(
      '{"jobs":[{"jobId":"b"},{"jobId":"a"}],"next":null}',
    );
    const lines = server.lines.filter(({ level }) => level === "error");
    expect(lines.map(({ context }) => context)).toMatchObject([
      { jobIds: ["nothing", "throws"], err: { message: expect.stringContaining("present") } },
    ]);
  });

  test("leaves out a job that is gone before its row is made", async () => {
    const { read, ...store } = memoryStore();
    const gone: typeof read = (jobId, after) => (jobId === "gone" ? undefined : read(jobId, after));
    const server = await startServer({ present, store: { ...store, read: gone } });
    await publishAll(server, ["a", "gone"]);
    expect((await server.get("/jobs")).json()).toMatchObject({ jobs: [{ id: "a" }], next: null });
  });

  test("is refused while the store cannot be read", async () => {
    const { read, ...store } = memoryStore();
    const away = async () => Promise.reject(new Error("away"));
    let readable = true;
    const server = await startServer({
      present,
      store: { ...store, read: (...asked) => (readable ? read(...asked) : away()) },
    });
    await publishAll(server, ["a"]);
    readable = false;
    const { status, json } = await server.get("/jobs");
    expect(status).toBe(503);
    expect(json()).toMatchObject({ code: "unavailable" });
  });

  test("ends a page after 1 MiB of rows; the next page goes on there", async () => {
    const text = "x".repeat(300_000);
    const server = await startServer({ present: ({ jobId }) => ({ jobId, text }) });
    const ids = range(1, 20).map((n) => `job ${n}`);
    await publishAll(server, ids);
    const listed: string[] = [];
    for (let next: string | null = ""; next !== null; ) {
      const cursor: string = next && `&cursor=${encodeURIComponent(next)}`;
      const { body, json } = await server.get(`/jobs?limit=200${cursor}`);
      expect(body.length).toBeLessThan(1024 * 1024 + 8 * 301_000);
      const page: JobPage = json();
      listed.push(...page.jobs.map(({ jobId }) => jobId));
      next = page.next;
    }
    expect(listed).toEqual(ids.reverse());
  });

  test.each([1, 8, 9, 30])("has %i rows a page when so many are asked for", async (limit) => {
    const server = await startServer({ present });
    await publishAll(
      server,
      range(1, 31).map((n) => `job ${n}`),
    );
    const { jobs, next } = (await server.get(`/jobs?limit=${limit}`)).json<JobPage>();
    expect(jobs).toHaveLength(limit);
    expect(next).not.toBeNull();
  });

  test("cannot be filtered by label, which would tell labels that the shape leaves out", async () => {
    const asked: unknown[] = [];
    const server = await startServer({
      present,
      authorize: ({ action, query }) => {
        if (action === "list") asked.push(query.label);
        return true;
      },
    });
    await server.monitor.publish({ type: "job", jobId: JOB, labels: { secret: "yes" } });
    for (const value of ["yes", "no"]) {
      const { status, json } = await server.get(`/jobs?label=secret:${value}`);
      expect(status).toBe(400);
      expect(json()).toMatchObject({
        code: "bad_request",
        detail: expect.stringContaining("label"),
      });
    }
    expect(asked).toEqual([["secret:yes"], ["secret:no"]]);
  });

  test("can be filtered by status, which the wire tells anyway", async () => {
    const server = await startServer({ present });
    await server.monitor.publish({ type: "job", jobId: "a", status: "running" });
    await server.monitor.publish({ type: "job", jobId: "b", status: "failed" });
    const { text } = await server.get("/jobs?status=failed");
    expect(text).toBe('{"jobs":[{"id":"b","state":"FAILED"}],"next":null}');
  });
});

test("[R16] the list of jobs without a shape has the store's summaries", async () => {
  const server = await startServer();
  for (const jobId of ["a", "b"])
    await server.monitor.publish({ type: "job", jobId, labels: { ü: "ü" } });
  const { text } = await server.get("/jobs?label=ü:ü".replaceAll("ü", encodeURIComponent("ü")));
  expect(text).toBe(JSON.stringify(await server.monitor.list()));
});

test("[S6] [R12] redactError hides an error everywhere: attempts, causes, lists and events", async () => {
  const SECRET = "s3cret";
  const server = await startServer({ redactError: () => ({ code: "E", message: "hidden" }) });
  const error = () => new AggregateError([new Error(SECRET)], SECRET, { cause: new Error(SECRET) });
  const publish = (event: object) =>
    server.monitor.publish({ jobId: JOB, ...event } as PublishedEvent);
  const first = await publish({ type: "plan", stages: [{ stage: "a", maxAttempts: 3 }] });
  const viewers = [await server.watch(JOB), await server.watch(JOB, { mode: "delta" })];
  const stream = await server.stream(JOB);
  for (const attempt of [1, 2]) {
    await publish({ type: "stage", stage: "a", attempt, status: "failed", error: error() });
  }
  await publish({ type: "stage", stage: "a", attempt: 3, error: { message: SECRET } });
  await publish({ type: "job", status: "failed", error: error() });
  for (const viewer of viewers) await viewer.readToEnd();
  await stream.ended;
  const paths = [`/jobs/${JOB}`, "/jobs", eventsPath(JOB, { after: printCursor(first) })];
  const answers = await Promise.all(paths.map((path) => server.get(path)));
  const sent = [
    ...viewers.flatMap(({ payloads }) => payloads.map(String)),
    String(stream.raw),
    ...answers.map(({ text }) => text),
  ];
  for (const text of sent) {
    expect(text).not.toContain(SECRET);
  }
  expect(sent.filter((text) => text.includes("hidden")).length).toBeGreaterThan(8);
});
