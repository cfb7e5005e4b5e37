import {
  allowAll,
  createWorkflowMonitor,
  type Frame,
  type JobStore,
  memoryStore,
  printCursor,
  type WorkflowMonitor,
  type WorkflowMonitorError,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import { describe, expect, onTestFinished, test } from "vitest";
import { ManualClock, settle, turns } from "../support/clock.js";
import { as, range, revisionsIn } from "../support/frames.js";
import { heldStore } from "../support/stores.js";
import { inTime, until } from "../support/wait.js";

const JOB = "job";

function start(options: Partial<WorkflowMonitorOptions> = {}) {
  const clock = new ManualClock();
  const monitor = createWorkflowMonitor({ authorize: allowAll, clock, ...options });
  onTestFinished(async () => {
    await settle(clock, monitor.close());
  });
  return { clock, monitor };
}

const begin = (monitor: WorkflowMonitor) =>
  monitor.publish({ type: "job", jobId: JOB, status: "running" });
const say = (monitor: WorkflowMonitor, message: string) =>
  monitor.publish({ type: "job", jobId: JOB, message });

/** The next frame of a watch. */
async function next(frames: AsyncIterableIterator<Frame>): Promise<Frame> {
  const { done, value } = await inTime("a frame", frames.next());
  if (done) throw new Error("the watch ended");
  return value;
}

/** All that is still to come. */
const rest = (frames: AsyncIterableIterator<Frame>): Promise<Frame[]> =>
  inTime(
    "the end of the watch",
    (async () => {
      const all: Frame[] = [];
      for await (const frame of frames) all.push(frame);
      return all;
    })(),
  );

describe("monitor.watch", () => {
  test("yields the frames that any viewer gets, and ends with the job", async () => {
    const { monitor } = start();
    await begin(monitor);
    const frames = monitor.watch(JOB);
    const first = as("snapshot", await next(frames));
    expect(first).toMatchObject({ resumed: false, events: [], done: false });
    expect(first.job).toEqual(await monitor.get(JOB));
    expect(monitor.stats().viewers.watch).toBe(1);
    void say(monitor, "one");
    void say(monitor, "two");
    await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    const all = await rest(frames);
    expect(all.map(({ type }) => type)).toEqual(["update", "update", "update", "end"]);
    expect(revisionsIn(all)).toEqual([2, 3, 4]);
    expect(as("update", all[2]).job).toEqual(await monitor.get(JOB));
    expect(monitor.stats().viewers.watch).toBe(0);
    expect(await frames.next()).toEqual({ done: true, value: undefined });
  });

  test("of a job that is over yields its state and the end", async () => {
    const { monitor } = start();
    await monitor.publish({ type: "job", jobId: JOB, status: "failed", error: "no" });
    const all = await rest(monitor.watch(JOB));
    expect(all.map(({ type }) => type)).toEqual(["snapshot", "end"]);
    expect(as("end", all[1]).status).toBe("failed");
  });

  test.each(["a cursor", "its text"])("goes on after %s", async (form) => {
    const { monitor } = start();
    const cursor = await begin(monitor);
    await say(monitor, "one");
    await say(monitor, "two");
    const frames = monitor.watch(JOB, {
      after: form === "its text" ? printCursor(cursor) : cursor,
    });
    const first = as("snapshot", await next(frames));
    expect(first).toMatchObject({ resumed: true, job: { message: "two" } });
    expect(revisionsIn([first])).toEqual([2, 3]);
    await frames.return?.();
  });

  test("takes a cursor that is none for none", async () => {
    const { monitor } = start();
    await begin(monitor);
    const frames = monitor.watch(JOB, { after: "nonsense" });
    expect(await next(frames)).toMatchObject({ type: "snapshot", resumed: false });
    await frames.return?.();
  });

  test("of an unknown job rejects", async () => {
    const { monitor } = start();
    for (const jobId of ["unknown", "", "a\nb", ".."]) {
      await expect(monitor.watch(jobId).next()).rejects.toMatchObject({
        name: "WorkflowMonitorError",
        code: "unknown_job",
      });
    }
    expect(monitor.stats()).toMatchObject({ rooms: 0, viewers: { watch: 0 } });
  });

  test("ends when its consumer breaks off", async () => {
    const { monitor } = start();
    await begin(monitor);
    for await (const frame of monitor.watch(JOB)) {
      expect(frame.type).toBe("snapshot");
      break;
    }
    expect(monitor.stats().viewers.watch).toBe(0);
  });

  test("asks no authorize: it is the host's own", async () => {
    const { monitor } = start({ authorize: () => false });
    await begin(monitor);
    const frames = monitor.watch(JOB);
    expect((await next(frames)).type).toBe("snapshot");
    await frames.return?.();
  });

  describe("with a signal", () => {
    test("ends when it is aborted, also while it waits", async () => {
      const { monitor } = start();
      await begin(monitor);
      const abort = new AbortController();
      const frames = monitor.watch(JOB, { signal: abort.signal });
      await next(frames);
      const waiting = frames.next();
      await turns();
      abort.abort();
      expect(await inTime("the end", waiting)).toEqual({ done: true, value: undefined });
      expect(monitor.stats().viewers.watch).toBe(0);
    });

    test("that is aborted already yields nothing", async () => {
      const { monitor } = start();
      await begin(monitor);
      expect(await rest(monitor.watch(JOB, { signal: AbortSignal.abort() }))).toEqual([]);
      expect(monitor.stats()).toMatchObject({ rooms: 0, viewers: { watch: 0 } });
    });

    test("yields nothing more once it is aborted, in the middle of a batch", async () => {
      const { monitor } = start();
      await begin(monitor);
      const abort = new AbortController();
      const frames = monitor.watch(JOB, { signal: abort.signal });
      await next(frames);
      await Promise.all(range(1, 10).map((n) => say(monitor, `m${n}`)));
      expect(as("update", await next(frames)).job?.message).toBe("m1");
      abort.abort();
      expect((await rest(frames)).map(({ type }) => type)).toEqual([]);
    });

    test("ends while it joins, without a frame", async () => {
      const inner = memoryStore();
      const publisher = createWorkflowMonitor({ authorize: allowAll, store: inner });
      onTestFinished(() => publisher.close());
      await begin(publisher);
      const { store, calls } = heldStore(inner);
      const { monitor } = start({ store });
      const abort = new AbortController();
      const frames = monitor.watch(JOB, { signal: abort.signal });
      const first = frames.next();
      await until("the store is asked", () => calls.length === 1);
      abort.abort();
      for (let at = 0; at < 3; at++) {
        await until("the store is asked", () => calls.length > at);
        await calls[at]?.perform();
        calls[at]?.deliver();
        await turns();
      }
      const { done, value } = await inTime("the end", first);
      expect({ done, type: value?.type }).toEqual({ done: true, type: undefined });
      expect(monitor.stats().viewers.watch).toBe(0);
    });
  });

  test("of a slow consumer gets one snapshot for all that it missed", async () => {
    const { monitor } = start({ limits: { inFlightBytes: 2_000 } });
    await begin(monitor);
    const frames = monitor.watch(JOB);
    await next(frames);
    for (const n of range(1, 50)) await say(monitor, `m${n}`);
    await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    const all = await rest(frames);
    expect(revisionsIn(all)).toEqual(range(2, 52));
    const behind = all.filter((frame) => frame.type === "snapshot");
    expect(behind).toHaveLength(1);
    expect(behind[0]).toMatchObject({ behind: true, resumed: true, done: true });
    expect(all.at(-1)?.type).toBe("end");
    expect(all.length).toBeLessThan(10);
  });

  test("of many consumers is the same for each", async () => {
    const { monitor } = start();
    await begin(monitor);
    const watches = range(1, 10).map(() => rest(monitor.watch(JOB)));
    await until("all watch", () => monitor.stats().viewers.watch === 10);
    for (const n of range(1, 10)) await say(monitor, `m${n}`);
    await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    const all = await Promise.all(watches);
    for (const frames of all) expect(frames).toEqual(all[0]);
    expect(revisionsIn(all[0] ?? [])).toEqual(range(2, 12));
  });
});

describe("monitor.run", () => {
  const two = { stages: [{ stage: "build" }, { stage: "test" }] };
  const stageOf = async (monitor: WorkflowMonitor, name: string) =>
    (await monitor.get(JOB))?.stages.find(({ stage }) => stage === name);

  test("tells the stages of plain code as they come and go, and returns its result", async () => {
    const { monitor } = start();
    const events: string[] = [];
    monitor.on("update", ({ event }) => {
      const { status, progress, message } = { status: "", progress: "", message: "", ...event };
      const name = event.type === "stage" ? event.stage : event.type;
      events.push([name, status, progress, message].filter((part) => part !== "").join(" "));
    });
    const result = await monitor.run(
      JOB,
      { name: "Ship it", ...two },
      async ({ stage, signal }) => {
        expect(signal.aborted).toBe(false);
        const built = await stage("build", async ({ progress, message }) => {
          progress({ current: 1, total: 2 });
          await turns();
          message("half");
          await turns();
          return 20;
        });
        return stage("test", () => built + 1);
      },
    );
    expect(result).toBe(21);
    expect(events).toEqual([
      "plan",
      "job running",
      "build running",
      "build 50",
      "build half",
      "build completed",
      "test running",
      "test completed",
      "job completed",
    ]);
    expect(await monitor.get(JOB)).toMatchObject({
      name: "Ship it",
      status: "completed",
      progress: 100,
      run: 1,
      derived: false,
      counts: { completed: 2, total: 2 },
    });
  });

  test("runs stages side by side", async () => {
    const { monitor } = start();
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const running = monitor.run(JOB, two, ({ stage }) =>
      Promise.all([stage("build", () => gate), stage("test", () => gate)]),
    );
    await turns();
    expect(await monitor.get(JOB)).toMatchObject({
      activeStages: ["build", "test"],
      currentStage: "build",
    });
    release();
    await running;
    expect(await monitor.get(JOB)).toMatchObject({ status: "completed", counts: { completed: 2 } });
  });

  test("fails the stage and the job with what is thrown, and throws it again", async () => {
    const { monitor } = start();
    const error = Object.assign(new Error("no disk"), { code: "ENOSPC" });
    await expect(
      monitor.run(JOB, two, ({ stage }) =>
        stage("build", () => {
          throw error;
        }),
      ),
    ).rejects.toBe(error);
    const told = { code: "ENOSPC", message: "no disk" };
    expect(await stageOf(monitor, "build")).toMatchObject({ status: "failed", error: told });
    expect(await stageOf(monitor, "test")).toMatchObject({ status: "skipped", reason: "not_run" });
    expect(await monitor.get(JOB)).toMatchObject({ status: "failed", error: told, done: true });
  });

  test("throws what is no Error again as it is", async () => {
    const { monitor } = start();
    const failing = monitor.run(JOB, two, async () => {
      // biome-ignore lint/style/useThrowOnlyError: hosts do
      throw "a text";
    });
    await expect(failing).rejects.toBe("a text");
    expect(await monitor.get(JOB)).toMatchObject({
      status: "failed",
      error: { message: "a text" },
    });
  });

  test("goes on when the work catches what a stage threw", async () => {
    const { monitor } = start();
    const result = await monitor.run(JOB, two, async ({ stage }) => {
      await stage("build", () => Promise.reject(new Error("flaky"))).catch(() => {});
      return "fine";
    });
    expect(result).toBe("fine");
    expect(await stageOf(monitor, "build")).toMatchObject({ status: "failed" });
    expect(await monitor.get(JOB)).toMatchObject({ status: "completed" });
  });

  test("is cancelled by its signal", async () => {
    const { monitor } = start();
    const abort = new AbortController();
    const reason = new Error("changed my mind");
    const running = monitor.run(JOB, { ...two, signal: abort.signal }, ({ stage }) =>
      stage("build", async ({ signal }) => {
        expect(signal).toBe(abort.signal);
        await new Promise((_, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason as Error));
        });
      }),
    );
    await turns();
    expect(await stageOf(monitor, "build")).toMatchObject({ status: "running" });
    abort.abort(reason);
    await expect(running).rejects.toBe(reason);
    expect(await stageOf(monitor, "build")).toMatchObject({ status: "cancelled" });
    expect(await monitor.get(JOB)).toMatchObject({ status: "cancelled", done: true });
  });

  test("does not begin when its signal is aborted already", async () => {
    const { monitor } = start();
    const reason = new Error("too late");
    let worked = false;
    await expect(
      monitor.run(JOB, { ...two, signal: AbortSignal.abort(reason) }, () => {
        worked = true;
      }),
    ).rejects.toBe(reason);
    expect(worked).toBe(false);
    expect(await monitor.get(JOB)).toMatchObject({ status: "cancelled", done: true });
  });

  test("again is run 2, from the beginning", async () => {
    const { monitor } = start();
    await expect(
      monitor.run(JOB, two, ({ stage }) => stage("build", () => Promise.reject(new Error("no")))),
    ).rejects.toThrow("no");
    let during: unknown;
    await monitor.run(JOB, two, async ({ stage }) => {
      await turns();
      during = await monitor.get(JOB);
      await stage("build", () => {});
      await stage("test", () => {});
    });
    expect(during).toMatchObject({
      run: 2,
      status: "running",
      error: null,
      progress: 0,
      counts: { pending: 2, total: 2 },
    });
    expect(await monitor.get(JOB)).toMatchObject({ run: 2, status: "completed", error: null });
  });

  test("of a job that was only announced is run 1", async () => {
    const { monitor } = start();
    await monitor.publish({ type: "job", jobId: JOB, status: "pending" });
    await monitor.run(JOB, two, () => {});
    expect(await monitor.get(JOB)).toMatchObject({ run: 1, status: "completed" });
  });

  test("tells a stage that is called again as its next attempt", async () => {
    const { monitor } = start();
    let tries = 0;
    await monitor.run(JOB, two, async ({ stage }) => {
      const build = () =>
        stage("build", () => {
          tries += 1;
          if (tries < 3) throw new Error(`try ${tries}`);
        });
      await build().catch(() => {});
      await build().catch(() => {});
      await build();
    });
    expect(await stageOf(monitor, "build")).toMatchObject({
      status: "completed",
      attempt: 3,
      error: null,
      attempts: [
        { attempt: 1, status: "failed" },
        { attempt: 2, status: "failed" },
      ],
    });
    expect(await monitor.get(JOB)).toMatchObject({ run: 1, status: "completed" });
  });

  test("adds a stage that the plan does not name", async () => {
    const { monitor } = start();
    await monitor.run(JOB, two, ({ stage }) => stage("extra", () => {}));
    const job = await monitor.get(JOB);
    expect(job?.stages.map(({ stage, status }) => `${stage} ${status}`)).toEqual([
      "build skipped",
      "test skipped",
      "extra completed",
    ]);
  });

  test("does the work also when the plan or a stage is refused", async () => {
    const { monitor } = start();
    const errors: WorkflowMonitorError[] = [];
    monitor.on("error", (error) => errors.push(error));
    const plan = { stages: [{ stage: "a" }, { stage: "a" }] };
    expect(await monitor.run(JOB, plan, ({ stage }) => stage("\n", () => "done"))).toBe("done");
    expect(errors.length).toBeGreaterThanOrEqual(3);
    expect(new Set(errors.map(({ code }) => code))).toEqual(new Set(["refused"]));
  });

  const broken: Record<string, Partial<JobStore>> = {
    "does not answer": { read: () => new Promise(() => {}), append: () => new Promise(() => {}) },
    fails: {
      read: () => Promise.reject(new Error("away")),
      append: () => Promise.reject(new Error("away")),
    },
  };
  test.each(Object.entries(broken))(
    "does not hold the work up for a store that %s",
    async (_name, methods) => {
      const { clock, monitor } = start({ store: { ...memoryStore(), ...methods } });
      const begun = clock.now();
      let worked = 0;
      const running = monitor.run(JOB, two, async ({ stage }) => {
        for (const name of ["build", "test"]) {
          await stage(name, ({ progress, message }) => {
            progress(50);
            message("half");
            worked += 1;
          });
        }
        return clock.now() - begun;
      });
      // At most 2 s before the work, none during it, 2 s after it.
      const waited = await settle(clock, running, { stepMs: 500, steps: 12 });
      expect(worked).toBe(2);
      expect(waited).toBeLessThanOrEqual(2_000);
      expect(clock.now() - begun).toBeLessThanOrEqual(4_500);
    },
  );

  test("does the work after close, too", async () => {
    const { clock, monitor } = start();
    await monitor.close();
    expect(
      await settle(
        clock,
        monitor.run(JOB, two, ({ stage }) => stage("build", () => "done")),
      ),
    ).toBe("done");
  });
});
