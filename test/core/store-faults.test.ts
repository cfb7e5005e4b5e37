import {
  allowAll,
  type Cursor,
  createWorkflowMonitor,
  type JobStore,
  type MonitorEvents,
  memoryStore,
  type WorkflowMonitor,
  WorkflowMonitorError,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import { afterEach, describe, expect, test } from "vitest";
import { ManualClock, settle, turns } from "../support/clock.js";
import { join, watchRequest } from "../support/member.js";
import { recorder } from "../support/server.js";

const clock = new ManualClock();
const monitors: WorkflowMonitor[] = [];

afterEach(async () => {
  for (const monitor of monitors.splice(0)) await settle(clock, monitor.close());
});

/** A monitor on a memory store whose calls fail as the test says. */
function start(options: Partial<WorkflowMonitorOptions> = {}) {
  const inner = memoryStore({ clock });
  /** Throws what a call of the store throws. */
  const fails: { append?: () => void; read?: (jobId: string) => void } = {};
  const calls = { append: 0, read: 0 };
  const store: JobStore = {
    ...inner,
    async append(jobId, ...rest) {
      calls.append += 1;
      fails.append?.();
      return inner.append(jobId, ...rest);
    },
    async read(jobId, after) {
      calls.read += 1;
      fails.read?.(jobId);
      return inner.read(jobId, after);
    },
  };
  const { logger, lines } = recorder();
  const monitor = createWorkflowMonitor({ authorize: allowAll, clock, logger, store, ...options });
  monitors.push(monitor);
  const errors: MonitorEvents["error"][] = [];
  monitor.on("error", (error) => errors.push(error));
  const say = (fields: object): Promise<Cursor> =>
    monitor.publish({ type: "job", jobId: "j", ...fields });
  const told = (level: "warn" | "error") => lines.filter((line) => line.level === level);
  return { inner, fails, calls, monitor, errors, lines, told, say };
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "taken",
    (thrown: WorkflowMonitorError) => thrown.code,
  );

const refuse = (why: string) => () => {
  throw new WorkflowMonitorError("unavailable", `The store is full (${why}): make room.`);
};

const damage = (jobId: string) => () => {
  throw new WorkflowMonitorError("damaged", `The keys of ${jobId} are damaged: delete them.`, {
    jobId,
  });
};

/** Lets time pass in steps that retries fit into. */
async function pass(seconds: number): Promise<void> {
  for (let step = 0; step < 2 * seconds; step += 1) {
    clock.advance(500);
    await turns();
  }
}

describe("a store that refuses appends", () => {
  test("[fault R1] [D12] is no conflict: what is published waits, and no end is lost", async () => {
    const { fails, calls, inner, say, errors, told, lines } = start();
    await say({ status: "running" });
    fails.append = refuse("OOM");
    const waiting = [say({ message: "1" }), say({ message: "2" }), say({ status: "completed" })];
    const before = calls.append;
    await pass(600);
    // A try every 5 s at most, and not fewer.
    expect(calls.append - before).toBeGreaterThan(64);
    expect(calls.append - before).toBeLessThan(300);
    expect(told("warn").map(({ message }) => message)).toEqual(
      Array(10).fill("the store fails: The store is full (OOM): make room."),
    );
    delete fails.append;
    await settle(clock, Promise.all(waiting));
    expect(errors).toEqual([]);
    expect(await inner.read("j")).toMatchObject({ job: { status: "completed", message: "2" } });
    expect(lines.at(-1)).toMatchObject({ level: "info", message: "the store answers again" });
  });

  test("[fault R1] is told of when what it says changes, and then once a minute, for all jobs together", async () => {
    const { fails, monitor, told } = start();
    fails.append = refuse("OOM");
    for (let n = 0; n < 20; n += 1) void monitor.publish({ type: "job", jobId: `${n}` });
    await pass(30);
    fails.append = refuse("MISCONF");
    await pass(20);
    expect(told("warn").map(({ message }) => /\((\w+)\)/.exec(message)?.[1])).toEqual([
      "OOM",
      "MISCONF",
    ]);
  });

  test("[fault R1] [R13] publishers hear of it when the queue is full, and not before", async () => {
    const { fails, say, monitor } = start({ limits: { queuedEvents: 5 } });
    fails.append = refuse("OOM");
    const waiting = [1, 2, 3, 4, 5].map((n) => say({ message: `${n}` }));
    await pass(60);
    expect(await codeOf(say({ message: "too many" }))).toBe("overloaded");
    delete fails.append;
    await settle(clock, Promise.all(waiting));
    expect(monitor.stats()).toMatchObject({ published: 5, refused: 1 });
  });

  test("[fault R1] a monitor that is closed ends the waiting", async () => {
    const { fails, say, monitor } = start({ drainMs: 100 });
    fails.append = refuse("OOM");
    const waiting = codeOf(say({ status: "running" }));
    await pass(20);
    await settle(clock, monitor.close());
    expect(await waiting).toBe("closed");
  });

  test("[fault R1] [R18] when it takes appends again, a lost job is brought back", async () => {
    const { fails, say, inner, monitor, calls } = start();
    await say({ status: "running", message: "so far" });
    // Another log, as if this one had been lost: the publisher's next event finds it so.
    const { read, append, find } = memoryStore({ clock });
    Object.assign(inner, { read, append, find });
    fails.append = refuse("OOM");
    const waiting = say({ id: "e1", status: "completed" });
    const before = calls.append;
    await pass(1_200);
    expect(calls.append - before).toBeGreaterThan(64);
    delete fails.append;
    await settle(clock, waiting);
    expect(await monitor.get("j")).toMatchObject({ message: "so far", status: "completed" });
  });
});

describe("a job whose stored data cannot be read", () => {
  test("[S4] [R20] costs that job only: its events are rejected, the others go on", async () => {
    const { fails, monitor, say, calls } = start({ limits: { queuedEvents: 200 } });
    fails.read = (jobId) => jobId === "bad" && damage(jobId)();
    const bad = Array.from({ length: 150 }, (_, n) =>
      codeOf(monitor.publish({ type: "job", jobId: "bad", message: `${n}` })),
    );
    expect(new Set(await settle(clock, Promise.all(bad)))).toEqual(new Set(["damaged"]));
    expect(calls.read).toBe(1);
    expect(await codeOf(say({ status: "running" }))).toBe("taken");
  });

  test("[S4] [R20] is tried again with its next event", async () => {
    const { fails, say } = start();
    await say({ status: "running" });
    fails.append = damage("j");
    expect(await codeOf(say({ message: "lost" }))).toBe("damaged");
    delete fails.append;
    expect(await codeOf(say({ message: "taken" }))).toBe("taken");
  });

  test("[S4] [R20] is told of once a minute, as a line and an `error` event that name it", async () => {
    const { fails, monitor, errors, told } = start();
    fails.read = (jobId) => damage(jobId)();
    const publishAndRead = async () => {
      for (const jobId of ["a", "b"]) {
        for (let n = 0; n < 5; n += 1)
          expect(await codeOf(monitor.publish({ type: "job", jobId }))).toBe("damaged");
        expect(await codeOf(monitor.get(jobId))).toBe("damaged");
      }
    };
    await publishAndRead();
    clock.advance(59_000);
    await publishAndRead();
    expect(errors.map(({ code, jobId }) => `${code} ${jobId}`)).toEqual(["damaged a", "damaged b"]);
    expect(told("error").map(({ message }) => message)).toEqual([
      "The keys of a are damaged: delete them.",
      "The keys of b are damaged: delete them.",
    ]);
    expect(told("warn")).toEqual([]);
    clock.advance(1_000);
    await publishAndRead();
    expect(errors).toHaveLength(4);
    expect(monitor.stats().refused).toBe(30);
  });

  test("[S4] [R20] is told to viewers in words that name no key", async () => {
    const { fails, monitor } = start();
    fails.read = (jobId) => damage(jobId)();
    const expected = {
      code: "damaged",
      message: "The stored data of this job cannot be read: its operator has to repair it.",
      jobId: "j",
      retryAfterMs: 30_000,
    };
    await expect(join(monitor, "j")).rejects.toMatchObject(expected);
    await expect(monitor.egress.read(watchRequest("j"))).rejects.toMatchObject(expected);
  });

  test("[S4] [R20] keeps its viewers for a minute, in which it may be repaired; then they are told", async () => {
    const { fails, monitor, say } = start();
    await say({ status: "running" });
    const { member: one } = await join(monitor, "j");
    fails.read = (jobId) => damage(jobId)();
    await pass(70);
    expect(one.types()).toEqual(["snapshot"]);
    delete fails.read;
    await pass(60);
    await say({ message: "repaired" });
    expect(one.types()).toEqual(["snapshot", "update"]);
    const { member: other } = await join(monitor, "j");
    fails.read = (jobId) => damage(jobId)();
    await pass(110);
    for (const member of [one, other]) expect(member.types().at(-1)).toBe("error");
    expect(one.frames().at(-1)).toMatchObject({ code: "damaged", jobId: "j", retryable: true });
    expect(one.ends[0]?.code).toBe(1011);
  });

  test("[S4] [R20] is left out of a list, and told of", async () => {
    const inner = memoryStore({ clock });
    const damaged = [
      new WorkflowMonitorError("damaged", "The keys are damaged.", { jobId: "bad" }),
    ];
    const store: JobStore = {
      ...inner,
      list: async () => ({ jobs: [], next: null, damaged }),
    };
    const { monitor, errors } = start({ store });
    expect(await monitor.list()).toEqual({ jobs: [], next: null });
    expect(await monitor.list()).toEqual({ jobs: [], next: null });
    expect(errors).toEqual(damaged);
  });

  test("[S4] [R20] is told of for at most 1,000 jobs a minute", async () => {
    const { fails, monitor, errors } = start();
    fails.read = (jobId) => damage(jobId)();
    const read = (n: number) => codeOf(monitor.get(`${n}`));
    for (let n = 0; n < 2_000; n += 1) await read(n);
    expect(errors).toHaveLength(1_000);
    clock.advance(60_000);
    for (let n = 0; n < 2_000; n += 1) await read(n);
    expect(errors).toHaveLength(2_000);
  });
});
