import { EventEmitter } from "node:events";
import {
  applyPatch,
  createEngine,
  type JobPatch,
  type JobSnapshot,
  type LeaveEvent,
  printCursor,
  type Status,
  type ViewerEvent,
  type WorkflowEvent,
} from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { as, type FrameOf, range, revisionsIn } from "../support/frames.js";
import { startServer, type TestServer } from "../support/server.js";
import { connect } from "../support/viewer.js";
import { until } from "../support/wait.js";

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

const plan = (jobId: string, stages: string[]) => ({
  jobId,
  stages: stages.map((stage) => ({ stage })),
});

/** What an update says of a transition. */
const transition = ({ event }: FrameOf<"update">) => {
  if (event.type !== "stage") throw new Error(`expected a stage event, got ${event.type}`);
  return { stage: event.stage, status: event.status, timestamp: event.timestamp };
};

describe("[requirement 1] a WebSocket with a jobId", () => {
  test("[requirement 1] joins that job's room and gets the current status at once", async () => {
    const server = await startServer();
    const joined: ViewerEvent[] = [];
    server.monitor.on("join", (event) => joined.push(event));
    server.engine.emit("plan", plan("42", ["build", "test"]));
    server.engine.emit("stage", { jobId: "42", stage: "build", status: "running", progress: 50 });
    await server.settled("42");

    const viewer = await server.watch("42");
    const first = await viewer.expect("snapshot");

    expect(first).toMatchObject({
      jobId: "42",
      resumed: false,
      events: [],
      done: false,
      heartbeatMs: 25_000,
      job: { status: "running", currentStage: "build", progress: 25 },
    });
    expect(first.job).toEqual(await server.monitor.get("42"));
    expect(first.cursor).toBe(printCursor(first.job));
    expect("behind" in first).toBe(false);
    expect(joined).toEqual([{ jobId: "42", viewer: expect.any(String), transport: "ws" }]);
    expect(server.monitor.stats()).toMatchObject({ rooms: 1, viewers: { ws: 1 } });
  });

  test("[requirement 1] gets every later update of that job, and of no other", async () => {
    const server = await startServer();
    server.engine.emit("plan", plan("mine", ["a", "b", "c"]));
    server.engine.emit("plan", plan("other", ["a", "b", "c"]));
    await Promise.all([server.settled("mine"), server.settled("other")]);
    const viewer = await server.watch("mine");
    await viewer.expect("snapshot");

    for (const stage of ["a", "b"]) {
      for (const jobId of ["other", "mine"]) {
        server.engine.emit("stage", { jobId, stage, status: "running" });
        server.engine.emit("stage", { jobId, stage, status: "completed" });
      }
    }
    const cursor = printCursor(await server.settled("mine"));
    await server.settled("other");
    const read = await viewer.readUntil((frame) => "cursor" in frame && frame.cursor === cursor);

    expect(revisionsIn(read)).toEqual(range(2, 5));
    expect(new Set(read.map((frame) => as("update", frame).jobId))).toEqual(new Set(["mine"]));
    const jobs = read.map((frame) => as("update", frame).job as JobSnapshot);
    expect(jobs.map(({ revision }) => revision)).toEqual(range(2, 5));
    expect(jobs.at(-1)).toEqual(await server.monitor.get("mine"));
  });

  test("[requirement 1] joins at once when the job has only been announced", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: "new", status: "pending" });
    const viewer = await server.watch("new");
    expect(await viewer.expect("snapshot")).toMatchObject({
      job: { status: "pending", stages: [], revision: 1 },
    });
    server.engine.emit("stage", { jobId: "new", stage: "build", status: "running" });
    expect(await viewer.expect("update")).toMatchObject({
      event: { stage: "build", status: "running" },
      job: { status: "running", revision: 2 },
    });
  });
});

describe("[requirement 2] a change of a stage's status", () => {
  const STATUSES: Status[] = ["running", "waiting", "completed", "failed", "cancelled", "skipped"];

  test.each(STATUSES)("[requirement 2] to %s reaches all viewers", async (status) => {
    const server = await startServer();
    server.engine.emit("plan", plan("job", ["build", "rest"]));
    await server.settled("job");
    const viewers = await Promise.all(range(1, 5).map(() => server.watch("job")));
    for (const viewer of viewers) await viewer.expect("snapshot");

    const before = Date.now();
    server.engine.emit("stage", { jobId: "job", stage: "build", status });
    for (const viewer of viewers) {
      const update = await viewer.expect("update");
      const told = transition(update);
      expect(told).toMatchObject({ stage: "build", status });
      expect(told.timestamp).toMatch(ISO);
      expect(Date.parse(told.timestamp)).toBeGreaterThanOrEqual(before);
      expect(Date.parse(told.timestamp)).toBeLessThanOrEqual(Date.now());
      expect(update.job?.stages[0]).toMatchObject({ stage: "build", status });
    }
  });

  test("[requirement 2] reaches all viewers in the order in which it was emitted", async () => {
    const server = await startServer();
    const stages = ["fetch", "build", "test", "pack", "ship"];
    server.engine.emit("plan", plan("job", [...stages, "last"]));
    await server.settled("job");
    const viewers = await Promise.all([
      server.watch("job"),
      server.watch("job"),
      server.watch("job", { mode: "delta" }),
    ]);
    for (const viewer of viewers) await viewer.expect("snapshot");

    const emitted: ReturnType<typeof transition>[] = [];
    let at = Date.parse("2026-03-01T12:00:00.000Z");
    for (const stage of stages) {
      for (const status of ["running", "waiting", "running", "completed"] as const) {
        at += 1_234;
        const timestamp = new Date(at).toISOString();
        emitted.push({ stage, status, timestamp });
        server.engine.emit("stage", { jobId: "job", stage, status, timestamp });
      }
    }
    await server.settled("job");
    for (const viewer of viewers) {
      const read = await viewer.readUntil(
        (frame) => "cursor" in frame && frame.cursor.endsWith(`.${emitted.length + 1}`),
      );
      expect(read.map((frame) => transition(as("update", frame)))).toEqual(emitted);
    }
  });

  test("[requirement 2] says the status also when progress on a pending stage implied it", async () => {
    const server = await startServer();
    server.engine.emit("plan", plan("job", ["build", "rest"]));
    await server.settled("job");
    const viewer = await server.watch("job");
    await viewer.expect("snapshot");
    const timestamp = "2026-03-01T12:00:00.000Z";
    server.engine.emit("stage", { jobId: "job", stage: "build", progress: 40, timestamp });
    expect(transition(await viewer.expect("update"))).toEqual({
      stage: "build",
      status: "running",
      timestamp,
    });
  });

  test("[requirement 2] says the status also when a stage that nobody planned begins with progress", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: "job", status: "pending" });
    const viewer = await server.watch("job");
    await viewer.expect("snapshot");
    server.engine.emit("stage", { jobId: "job", stage: "extra", progress: { current: 1 } });
    expect(transition(await viewer.expect("update"))).toMatchObject({
      stage: "extra",
      status: "running",
    });
  });

  test.each([
    { from: "failed", more: {}, to: "pending" },
    { from: "failed", more: { progress: 10 }, to: "running" },
    { from: "running", more: {}, to: "pending" },
    { from: "running", more: { progress: 10 }, to: "running" },
  ] as const)(
    "[requirement 2] says the status also when a new attempt implied it: $from, then $to $more",
    async ({ from, more, to }) => {
      const server = await startServer();
      server.engine.emit("plan", {
        jobId: "job",
        stages: [{ stage: "build", maxAttempts: 3 }, { stage: "rest" }],
      });
      server.engine.emit("stage", { jobId: "job", stage: "build", status: "running" });
      server.engine.emit("stage", { jobId: "job", stage: "build", status: from });
      await server.settled("job");
      const viewer = await server.watch("job");
      await viewer.expect("snapshot");
      server.engine.emit("stage", { jobId: "job", stage: "build", attempt: 2, ...more });
      const update = await viewer.expect("update");
      expect(update.job?.stages[0]).toMatchObject({ attempt: 2, status: to });
      expect(transition(update)).toMatchObject({ stage: "build", status: to });
      expect(update.event.timestamp).toMatch(ISO);
    },
  );
});

describe("[requirement 3] a lost connection", () => {
  const ways = {
    "a clean close": { code: 1000, reason: "bye", leave: 1000 },
    "a close without a code": { code: undefined, reason: "", leave: 1005 },
    "a destroyed TCP connection": { code: null, reason: "", leave: 1006 },
  };

  test.each(Object.entries(ways))(
    "[requirement 3] is cleaned up and logged: %s",
    async (_name, { code, reason, leave }) => {
      const server = await startServer();
      const left: LeaveEvent[] = [];
      const joined: ViewerEvent[] = [];
      server.monitor.on("leave", (event) => left.push(event));
      server.monitor.on("join", (event) => joined.push(event));
      await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
      const [viewer, other] = [await server.watch("job"), await server.watch("job")];
      await viewer.expect("snapshot");
      await other.expect("snapshot");
      for (const message of ["one", "two", "three"]) {
        server.engine.emit("job", { jobId: "job", message });
      }
      await server.settled("job");
      await viewer.readUntil((frame) => frame.type === "update" && frame.job?.message === "three");
      expect(server.monitor.stats().viewers.ws).toBe(2);

      if (code === null) viewer.socket.terminate();
      else viewer.socket.close(code, reason || undefined);
      await until("the viewer has left", () => left.length > 0);

      const event = {
        jobId: "job",
        viewer: joined[0]?.viewer,
        transport: "ws",
        code: leave,
        reason,
        durationMs: expect.any(Number),
        delivered: 3,
      };
      expect(left).toEqual([event]);
      expect(left[0]?.durationMs).toBeGreaterThanOrEqual(0);
      expect(server.lines.filter(({ message }) => message === "viewer disconnected")).toEqual([
        { level: "info", context: event, message: "viewer disconnected" },
      ]);
      expect(server.monitor.stats().viewers.ws).toBe(1);

      server.engine.emit("job", { jobId: "job", message: "four" });
      const read = await other.readUntil(
        (frame) => frame.type === "update" && frame.job?.message === "four",
      );
      expect(revisionsIn(read)).toEqual(range(2, 5));
      expect(left).toHaveLength(1);
    },
  );

  test.each(["close", "terminate"] as const)(
    "[requirement 3] is taken up again by the same jobId after a %s",
    async (how) => {
      const server = await startServer();
      await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
      const viewer = await server.watch("job");
      await viewer.expect("snapshot");
      viewer.socket[how]();
      await until("nobody watches", () => server.monitor.stats().viewers.ws === 0);
      server.engine.emit("job", { jobId: "job", message: "while away" });
      await server.settled("job");

      const back = await server.watch("job");
      expect(await back.expect("snapshot")).toMatchObject({
        resumed: false,
        events: [],
        job: { message: "while away", revision: 2 },
      });
      server.engine.emit("job", { jobId: "job", message: "back" });
      expect((await back.expect("update")).job?.message).toBe("back");
      expect(server.monitor.stats().viewers.ws).toBe(1);
    },
  );

  test.each(["full", "delta"] as const)(
    "[requirement 3] misses nothing that happened meanwhile, with a cursor: mode %s",
    async (mode) => {
      const server = await startServer();
      const published: WorkflowEvent[] = [];
      server.monitor.on("update", ({ event }) => published.push(event));
      server.engine.emit("plan", plan("job", ["a", "b", "c"]));
      await server.settled("job");
      const viewer = await server.watch("job", { mode });
      await viewer.expect("snapshot");
      server.engine.emit("stage", { jobId: "job", stage: "a", status: "running" });
      const { cursor } = await viewer.expect("update");
      viewer.socket.terminate();
      await until("nobody watches", () => server.monitor.stats().viewers.ws === 0);

      published.length = 0;
      server.engine.emit("stage", { jobId: "job", stage: "a", status: "completed" });
      server.engine.emit("stage", { jobId: "job", stage: "b", status: "running", message: "ä" });
      server.engine.emit("job", { jobId: "job", labels: { team: "x" } });
      server.engine.emit("stage", { jobId: "job", stage: "b", status: "failed", error: "boom" });
      await server.settled("job");

      const back = await server.watch("job", { mode, after: cursor });
      const first = await back.expect("snapshot");
      expect(first.resumed).toBe(true);
      expect(first.events).toEqual(published);
      expect(revisionsIn([first])).toEqual(range(3, 6));
      expect(first.job).toEqual(await server.monitor.get("job"));
      server.engine.emit("stage", { jobId: "job", stage: "c", status: "running" });
      expect(revisionsIn([await back.expect("update")])).toEqual([7]);
    },
  );

  test("[requirement 3] that missed nothing is resumed without an event", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
    const viewer = await server.watch("job");
    const { cursor } = await viewer.expect("snapshot");
    viewer.socket.terminate();
    const back = await server.watch("job", { after: cursor });
    expect(await back.expect("snapshot")).toMatchObject({ cursor, resumed: true, events: [] });
  });

  test("[requirement 3] is taken up over a new connection with the ETag of a poll", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
    const polled = await server.poll("job");
    const after = JSON.parse(polled.headers.etag as string) as string;
    await server.monitor.publish({ type: "job", jobId: "job", message: "next" });
    const viewer = await server.watch("job", { after });
    const first = await viewer.expect("snapshot");
    expect(first).toMatchObject({ resumed: true, events: [{ type: "job", message: "next" }] });
  });

  test("[requirement 3] loses nothing when it breaks over and over in a stream of events", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
    let emitted = 0;
    const emitSome = (count: number) => {
      for (let n = 0; n < count; n++) {
        emitted += 1;
        server.engine.emit("job", { jobId: "job", message: `m${emitted}` });
      }
    };
    const seen: number[] = [];
    let after: string | undefined;
    for (let round = 0; round < 15; round++) {
      const viewer = await server.watch("job", after === undefined ? {} : { after });
      emitSome(7);
      const read = await viewer.readUntil(
        (frame) => "cursor" in frame && Number(frame.cursor.split(".")[1]) > round * 7,
      );
      emitSome(3);
      viewer.socket.terminate();
      seen.push(...revisionsIn(read));
      const last = read.at(-1);
      if (last && "cursor" in last) after = last.cursor;
    }
    const { revision } = await server.settled("job");
    const viewer = await server.watch("job", after === undefined ? {} : { after });
    seen.push(...revisionsIn([await viewer.expect("snapshot")]));
    expect(revision).toBe(emitted + 1);
    expect(seen).toEqual(range(revision - seen.length + 1, revision));
    expect(seen[0]).toBeLessThanOrEqual(8);
  });
});

describe("[requirement 4] many clients on one job", () => {
  async function crowd(server: TestServer, size: number, mode: "full" | "delta") {
    const viewers = await Promise.all(range(1, size).map(() => server.watch("job", { mode })));
    await Promise.all(viewers.map((viewer) => viewer.expect("snapshot")));
    return viewers;
  }

  test("[requirement 4] get byte-identical frames, all at once", { timeout: 30_000 }, async () => {
    const server = await startServer();
    server.engine.emit("plan", plan("job", ["a", "b", "c", "d"]));
    await server.settled("job");
    const [full, delta] = await Promise.all([
      crowd(server, 200, "full"),
      crowd(server, 50, "delta"),
    ]);
    expect(server.monitor.stats()).toMatchObject({ rooms: 1, viewers: { ws: 250 } });

    for (const stage of ["a", "b", "c"]) {
      for (const status of ["running", "waiting", "completed"] as const) {
        server.engine.emit("stage", { jobId: "job", stage, status });
      }
      await server.settled("job");
    }
    const { revision } = await server.settled("job");
    const isLast = (text: string) => text.endsWith(`.${revision}`);

    for (const viewers of [full, delta]) {
      for (const viewer of viewers) {
        const read = await viewer.readUntil((frame) => "cursor" in frame && isLast(frame.cursor));
        expect(revisionsIn(read)).toEqual(range(2, 10));
      }
      const payloads = viewers.map((viewer) =>
        Buffer.concat(viewer.payloads.filter((_, at) => viewer.frames[at]?.type !== "heartbeat")),
      );
      const first = payloads[0] as Buffer;
      expect(payloads.every((other) => other.equals(first))).toBe(true);
    }
    const events = [full, delta].map((viewers) =>
      viewers[0]?.frames.map((frame) => frame.type === "update" && frame.event).filter(Boolean),
    );
    expect(events[0]).toHaveLength(9);
    expect(events[0]).toEqual(events[1]);
    const { delivered, parked } = server.monitor.stats();
    expect({ delivered, parked }).toEqual({ delivered: 250 * 9, parked: 0 });
  });

  test("[requirement 4] with deltas come to the same job, to the byte", async () => {
    const server = await startServer();
    server.engine.emit("plan", plan("job", ["a", "b", "c"]));
    await server.settled("job");
    const viewer = await server.watch("job", { mode: "delta" });
    let { job } = await viewer.expect("snapshot");

    server.engine.emit("stage", { jobId: "job", stage: "b", status: "running", progress: 30 });
    server.engine.emit("stage", { jobId: "job", stage: "extra", status: "running" });
    server.engine.emit("plan", plan("job", ["extra", "c", "b", "new"]));
    server.engine.emit("stage", { jobId: "job", stage: "b", status: "failed", error: "no" });
    server.engine.emit("job", { jobId: "job", status: "failed", labels: { k: "v" } });
    await server.settled("job");
    for (;;) {
      const frame = await viewer.next();
      if (frame.type === "end") break;
      const update = as("update", frame);
      expect("job" in update).toBe(false);
      job = applyPatch(job, update.patch as JobPatch);
    }
    expect(JSON.stringify(job)).toBe((await server.poll("job")).text);
  });

  test("[requirement 4] that come and go do not disturb each other", {
    timeout: 20_000,
  }, async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
    const steady = await Promise.all(range(1, 10).map(() => server.watch("job")));
    for (const viewer of steady) await viewer.expect("snapshot");
    for (let round = 1; round <= 20; round++) {
      const passing = await Promise.all(range(1, 5).map(() => server.watch("job")));
      server.engine.emit("job", { jobId: "job", message: `round ${round}` });
      for (const [at, viewer] of passing.entries()) {
        if (at % 2) viewer.socket.terminate();
        else viewer.socket.close();
      }
      await server.settled("job");
    }
    for (const viewer of steady) {
      const read = await viewer.readUntil(
        (frame) => "cursor" in frame && frame.cursor.endsWith(".21"),
      );
      expect(revisionsIn(read)).toEqual(range(2, 21));
    }
    await until("the passing ones are gone", () => server.monitor.stats().viewers.ws === 10);
  });
});

describe("[requirement 5] polling and push", () => {
  test("[requirement 5] return the identical structure, byte for byte", async () => {
    const server = await startServer();
    server.engine.emit("plan", { ...plan("job", ["bücher", "b"]), metadata: { π: [1, null] } });
    await server.settled("job");
    const viewer = await server.watch("job");
    const first = await viewer.expect("snapshot");
    const polled = await server.poll("job");
    expect(polled.headers.etag).toBe(`"${first.cursor}"`);
    expect(viewer.text.endsWith(`,"job":${polled.text}}`)).toBe(true);

    const events = [
      { stage: "bücher", status: "running", message: "ü 🚀" },
      { stage: "bücher", progress: { current: 1, total: 3 } },
      { stage: "bücher", status: "completed" },
      { stage: "b", status: "failed", error: Object.assign(new Error("é"), { code: "E1" }) },
    ] as const;
    for (const event of events) {
      server.engine.emit("stage", { jobId: "job", ...event });
      const update = await viewer.expect("update");
      const { body, text, headers } = await server.poll("job");
      expect(headers.etag).toBe(`"${update.cursor}"`);
      expect(headers["content-type"]).toMatch(/^application\/json/);
      expect(viewer.payload.includes(body)).toBe(true);
      expect(viewer.text.endsWith(`,"job":${text}}`)).toBe(true);
    }
    const end = await viewer.expect("end");
    const late = await server.watch("job");
    const last = await late.expect("snapshot");
    expect(last).toMatchObject({ cursor: end.cursor, done: true });
    expect(late.text.endsWith(`,"job":${(await server.poll("job")).text}}`)).toBe(true);
  });

  test("[requirement 5] agree on the validator: ETag and If-None-Match", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
    const { headers, status } = await server.poll("job");
    const etag = headers.etag as string;
    expect(status).toBe(200);
    expect(headers).toMatchObject({
      "cache-control": "private, no-cache",
      vary: "Authorization, Cookie",
      "retry-after": "2",
    });

    const current = [etag, `W/${etag}`, `"other", ${etag}`, `W/"x.1",W/${etag} , "y"`, "*"];
    for (const header of current) {
      const answer = await server.poll("job", { "if-none-match": header });
      expect({ header, status: answer.status, bytes: answer.body.length }).toEqual({
        header,
        status: 304,
        bytes: 0,
      });
      expect(answer.headers).toMatchObject({ etag, "cache-control": "private, no-cache" });
    }
    for (const header of [
      '"other"',
      etag.slice(1, -1),
      `${etag.slice(0, -1)}0"`,
      '""',
      "x",
      "W/*",
    ]) {
      const answer = await server.poll("job", { "if-none-match": header });
      expect({ header, status: answer.status }).toEqual({ header, status: 200 });
    }

    await server.monitor.publish({ type: "job", jobId: "job", message: "changed" });
    const changed = await server.poll("job", { "if-none-match": etag });
    expect(changed.status).toBe(200);
    expect(changed.headers.etag).not.toBe(etag);
    await server.monitor.publish({ type: "job", jobId: "job", message: "changed" });
    const same = await server.poll("job", { "if-none-match": changed.headers.etag });
    expect(same.status).toBe(304);
  });

  test("[requirement 5] tell a poller to stop when the job is over", async () => {
    const server = await startServer();
    await server.monitor.publish({ type: "job", jobId: "job", status: "completed" });
    const { headers, json } = await server.poll("job");
    expect("retry-after" in headers).toBe(false);
    expect(json<JobSnapshot>()).toMatchObject({ done: true, status: "completed", progress: 100 });
  });

  test("[requirement 5] [R16] both carry the shape that the host presents", async () => {
    const present = ({ jobId, status, progress, revision }: JobSnapshot) => ({
      id: jobId,
      state: status.toUpperCase(),
      percent: progress,
      no: revision,
    });
    const server = await startServer({ present, presentVersion: "v2" });
    await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
    const full = await server.watch("job");
    const delta = await server.watch("job", { mode: "delta" });
    const firsts = [await full.expect("snapshot"), await delta.expect("snapshot")];
    for (const first of firsts) {
      expect(first.job).toEqual({ id: "job", state: "RUNNING", percent: 0, no: 1 });
    }
    server.engine.emit("job", { jobId: "job", progress: 40 });
    for (const viewer of [full, delta]) {
      const update = await viewer.expect("update");
      expect("patch" in update).toBe(false);
      expect(update.job).toEqual({ id: "job", state: "RUNNING", percent: 40, no: 2 });
    }
    expect(delta.payloads.at(-1)?.equals(full.payloads.at(-1) as Buffer)).toBe(true);

    const { text, headers } = await server.poll("job");
    const cursor = as("update", full.frames.at(-1)).cursor;
    expect(full.text.endsWith(`,"job":${text}}`)).toBe(true);
    expect(headers.etag).toBe(`"${cursor}-v2"`);
    const again = await server.poll("job", { "if-none-match": `"${cursor}-v2"` });
    expect(again.status).toBe(304);
    const old = await server.poll("job", { "if-none-match": `"${cursor}"` });
    expect(old.status).toBe(200);
    server.engine.emit("job", { jobId: "job", status: "completed" });
    await full.expect("update");
    expect(await full.expect("end")).toMatchObject({ status: "completed" });
    expect(await full.closed).toMatchObject({ code: 1000 });
  });

  test("[requirement 5] [R16] a present that throws is a 500 and a close 1011, and no more", async () => {
    let broken = false;
    const server = await startServer({
      present: (job) => {
        if (broken && job.jobId === "job") throw new Error("secret detail");
        return { no: job.revision };
      },
    });
    await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
    await server.monitor.publish({ type: "job", jobId: "fine", status: "running" });
    const viewer = await server.watch("job");
    const bystander = await server.watch("fine");
    await viewer.expect("snapshot");
    await bystander.expect("snapshot");

    broken = true;
    await server.monitor.publish({ type: "job", jobId: "job", message: "x" });
    const error = await viewer.expect("error");
    expect(error).toMatchObject({ jobId: "job", code: "internal", retryable: true });
    expect(await viewer.closed).toMatchObject({ code: 1011 });
    const polled = await server.poll("job");
    expect(polled.status).toBe(500);
    expect(polled.headers["content-type"]).toMatch(/^application\/problem\+json/);
    expect(polled.json()).toMatchObject({ code: "internal", status: 500 });
    const late = await server.watch("job");
    expect(await late.expect("error")).toMatchObject({ code: "internal" });
    expect(await late.closed).toMatchObject({ code: 1011 });
    for (const text of [polled.text, ...late.payloads.map(String), ...viewer.payloads.map(String)])
      expect(text).not.toContain("secret detail");

    await server.monitor.publish({ type: "job", jobId: "fine", message: "x" });
    expect((await bystander.expect("update")).job).toEqual({ no: 2 });
    broken = false;
    await server.monitor.publish({ type: "job", jobId: "job", message: "y" });
    const healed = await server.watch("job");
    expect((await healed.expect("snapshot")).job).toEqual({ no: 3 });
    expect((await server.poll("job")).json()).toEqual({ no: 3 });
  });
});

describe("[requirement 6] the engine's events", () => {
  const engines = {
    "createEngine()": () => createEngine(),
    "an EventEmitter of node:events": () => new EventEmitter(),
  };

  test.each(Object.entries(engines))(
    "[requirement 6] of %s reach both kinds of consumers, and every subscriber gets each of them",
    { timeout: 20_000 },
    async (_name, create) => {
      const server = await startServer();
      const engine = create();
      const detach = server.monitor.attach(engine);
      const emit = engine.emit.bind(engine) as (name: string, event: object) => boolean;
      const stages = range(1, 24).map((n) => `stage ${n}`);
      emit("plan", plan("job", stages));
      await server.settled("job");
      const viewers = await Promise.all(
        range(1, 20).map((n) => server.watch("job", { mode: n % 2 ? "full" : "delta" })),
      );
      for (const viewer of viewers) await viewer.expect("snapshot");

      // 50 events: job running, 24 stages running and completed, job completed.
      emit("job", { jobId: "job", status: "running" });
      let percent = 0;
      for (const [at, stage] of stages.entries()) {
        emit("stage", { jobId: "job", stage, status: "running" });
        await server.settled("job");
        const job = (await server.poll("job")).json<JobSnapshot>();
        expect(job).toMatchObject({ status: "running", currentStage: stage });
        expect(job.progress).toBe(Math.floor((at * 100) / 24));
        expect(job.progress).toBeGreaterThanOrEqual(percent);
        percent = job.progress;
        emit("stage", { jobId: "job", stage, status: "completed" });
      }
      emit("job", { jobId: "job", status: "completed" });

      for (const viewer of viewers) {
        const read = await viewer.readToEnd();
        expect(revisionsIn(read)).toEqual(range(2, 51));
        const end = as("end", read.at(-1));
        expect(end).toMatchObject({ jobId: "job", status: "completed" });
        expect(end.cursor).toMatch(/\.51$/);
        expect(read.filter(({ type }) => type === "end")).toHaveLength(1);
        expect(await viewer.closed).toEqual({ code: 1000, reason: "done" });
      }
      const jobs = (viewers[0]?.frames ?? [])
        .filter((frame) => frame.type === "update")
        .map(({ job }) => job as JobSnapshot);
      expect(jobs.at(-1)).toMatchObject({ status: "completed", progress: 100, currentStage: null });
      expect(jobs.map(({ progress }) => progress)).toEqual(
        jobs.map(({ progress }) => progress).toSorted((one, other) => one - other),
      );
      expect((await server.poll("job")).json()).toEqual(jobs.at(-1));
      expect(server.monitor.stats().viewers.ws).toBe(0);
      expect(server.monitor.stats().delivered).toBe(20 * 50);

      detach();
      emit("job", { jobId: "job", run: 2, status: "running" });
      expect((await server.monitor.get("job"))?.run).toBe(1);
      expect((engine.listenerCount as (name: string) => number).call(engine, "stage")).toBe(0);
    },
  );

  test("[requirement 6] come with the job's status, its current stage and its percentage", async () => {
    const server = await startServer();
    server.engine.emit("plan", {
      jobId: "job",
      stages: [{ stage: "a", weight: 3 }, { stage: "b" }],
    });
    await server.settled("job");
    const viewer = await server.watch("job");
    await viewer.expect("snapshot");
    const steps = [
      [{ stage: "a", status: "running" }, "running", "a", 0],
      [{ stage: "a", progress: 50 }, "running", "a", 37],
      [{ stage: "a", status: "completed" }, "running", null, 75],
      [{ stage: "b", status: "running" }, "running", "b", 75],
      [{ stage: "b", status: "completed" }, "completed", null, 100],
    ] as const;
    for (const [event, status, currentStage, progress] of steps) {
      server.engine.emit("stage", { jobId: "job", ...event });
      const { job } = await viewer.expect("update");
      expect(job).toMatchObject({ status, currentStage, progress });
      expect((await server.poll("job")).json()).toEqual(job);
    }
    expect(await viewer.expect("end")).toMatchObject({ status: "completed" });
  });

  test("[requirement 6] of two engines and of publish come together in one job", async () => {
    const server = await startServer();
    const second = new EventEmitter();
    server.monitor.attach(second);
    await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
    const viewer = await server.watch("job");
    await viewer.expect("snapshot");
    server.engine.emit("stage", { jobId: "job", stage: "a", status: "running" });
    second.emit("stage", { jobId: "job", stage: "b", status: "running" });
    await server.monitor.publish({ type: "stage", jobId: "job", stage: "c", status: "running" });
    const read = [];
    for (let n = 0; n < 3; n++) read.push(transition(await viewer.expect("update")).stage);
    expect(read).toEqual(["a", "b", "c"]);
  });
});

test("[requirement 1] the address may carry parameters that nobody knows", async () => {
  const server = await startServer();
  await server.monitor.publish({ type: "job", jobId: "job", status: "running" });
  const viewer = connect(`${server.wsUrl("job")}&token=abc&x=%F0%9F%9A%80`);
  expect(await viewer.expect("snapshot")).toMatchObject({ jobId: "job" });
});
