import {
  allowAll,
  type Cursor,
  createEngine,
  createWorkflowMonitor,
  type Frame,
  type JobStore,
  type Member,
  memoryStore,
  type PublishedEvent,
  printCursor,
  type StageEvent,
  type UpdateEvent,
  type WorkflowMonitor,
  type WorkflowMonitorError,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import { afterEach, describe, expect, test } from "vitest";
import { ManualClock, settle, turns } from "../support/clock.js";

const clock = new ManualClock();
const monitors: WorkflowMonitor[] = [];

afterEach(async () => {
  for (const monitor of monitors.splice(0)) await settle(clock, monitor.close());
});

function create(options: Partial<WorkflowMonitorOptions> = {}) {
  const monitor = createWorkflowMonitor({ authorize: allowAll, clock, ...options });
  monitors.push(monitor);
  const updates: UpdateEvent[] = [];
  const errors: WorkflowMonitorError[] = [];
  monitor.on("update", (update) => updates.push(update));
  monitor.on("error", (error) => errors.push(error));
  const engine = createEngine();
  const detach = monitor.attach(engine);
  return { monitor, engine, detach, updates, errors };
}

/** A store with some of its methods replaced. */
const over = (store: JobStore, replaced: (store: JobStore) => Partial<JobStore>): JobStore => ({
  read: (...args) => store.read(...args),
  append: (...args) => store.append(...args),
  find: (...args) => store.find(...args),
  follow: (...args) => store.follow(...args),
  close: () => store.close(),
  ...replaced(store),
});

const message = (text: string, more: Partial<StageEvent> = {}) =>
  ({ type: "job", jobId: "j", message: text, ...more }) as PublishedEvent;
const stage = (fields: Partial<StageEvent>) =>
  ({ type: "stage", jobId: "j", stage: "a", ...fields }) as PublishedEvent;

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "taken",
    (thrown: WorkflowMonitorError) => thrown.code,
  );

/** Publishes; time passes while it meets others. */
const publish = (monitor: WorkflowMonitor, event: PublishedEvent): Promise<Cursor> =>
  settle(clock, monitor.publish(event), { stepMs: 100 });

/** The messages of a log, in order, as the store has them. */
async function messages(store: JobStore, jobId = "j"): Promise<(string | undefined)[]> {
  const record = await store.read(jobId, { epoch: "", revision: 0 });
  return (record?.events ?? []).map((text) => (JSON.parse(text) as { message?: string }).message);
}

describe("idempotency", () => {
  test("[R2] an event whose id was seen changes nothing, whatever it says", async () => {
    const { monitor, updates } = create();
    const first = await monitor.publish(message("one", { id: "e1" }));
    await expect(monitor.publish(message("two", { id: "e1" }))).resolves.toEqual(first);
    await expect(monitor.get("j")).resolves.toMatchObject({ message: "one", revision: 1 });
    expect(updates).toHaveLength(1);
  });

  test("[R2] an id that comes twice in one batch counts once", async () => {
    const { monitor, updates } = create();
    await Promise.all(
      ["one", "two", "three"].map((text) => monitor.publish(message(text, { id: "e1" }))),
    );
    expect(updates.map(({ job }) => job.message)).toEqual(["one"]);
  });

  test("[R2] the same id in another job is another event", async () => {
    const { monitor } = create();
    await monitor.publish(message("one", { id: "e1" }));
    await monitor.publish(message("two", { id: "e1", jobId: "k" }));
    await expect(monitor.get("k")).resolves.toMatchObject({ message: "two" });
  });

  test("[R2] an id is known to a monitor that never saw its event", async () => {
    const store = memoryStore({ clock });
    const first = await create({ store }).monitor.publish(message("one", { id: "e1" }));
    const later = create({ store });
    await expect(later.monitor.publish(message("two", { id: "e1" }))).resolves.toEqual(first);
    expect(later.updates).toEqual([]);
    expect(await messages(store)).toEqual(["one"]);
  });

  test("[R2] an id that another publisher brought meanwhile is known too", async () => {
    const store = memoryStore({ clock });
    const [one, other] = [create({ store }).monitor, create({ store }).monitor];
    await publish(one, message("1", { id: "e1" }));
    await publish(other, message("2", { id: "e2" }));
    await publish(one, message("3", { id: "e3" }));
    await publish(other, message("again", { id: "e3" }));
    await publish(one, message("again", { id: "e2" }));
    expect(await messages(store)).toEqual(["1", "2", "3"]);
  });

  test("[R2] an id of a done run is known when the job runs again", async () => {
    const { monitor } = create();
    await monitor.publish(stage({ id: "e1", status: "running" }));
    await monitor.publish({ type: "job", jobId: "j", status: "failed" });
    await monitor.publish({ type: "job", jobId: "j", run: 2, status: "running" });
    await monitor.publish(stage({ id: "e1", status: "running" }));
    await expect(monitor.get("j")).resolves.toMatchObject({ run: 2, stages: [] });
  });

  test("[R2] an id stays in the event that viewers get", async () => {
    const { monitor, updates } = create();
    await monitor.publish(message("one", { id: "e1" }));
    expect(updates[0]?.event.id).toBe("e1");
  });

  test("[R2] thousands of ids in between do not make it forgotten, while history has it", async () => {
    const { monitor, updates } = create();
    await monitor.publish(message("first", { id: "first" }));
    for (let batch = 0; batch < 4; batch += 1) {
      await Promise.all(
        Array.from({ length: 500 }, (_, index) =>
          monitor.publish(message(`${batch}.${index}`, { id: `e${batch}.${index}` })),
        ),
      );
    }
    await monitor.publish(message("again", { id: "first" }));
    await monitor.publish(message("again", { id: "e0.7" }));
    expect(updates).toHaveLength(2_001);
  });
});

describe("the cursor of a publish", () => {
  test("[R11] is that of the event's own revision", async () => {
    const { monitor, updates } = create();
    const cursors = await Promise.all(
      ["1", "2", "3"].map((text) => monitor.publish(message(text))),
    );
    expect(cursors.map(({ revision }) => revision)).toEqual([1, 2, 3]);
    expect(updates.map(({ cursor }) => cursor)).toEqual(cursors);
  });

  test("[R11] of a no-op is one that contains it", async () => {
    const { monitor } = create();
    const first = await monitor.publish(stage({ status: "running" }));
    await expect(monitor.publish(stage({ status: "running" }))).resolves.toEqual(first);
    await expect(monitor.publish(stage({ status: "pending" }))).resolves.toEqual(first);
  });

  test("[R11] of coalesced progress is that of the revision which overtook it", async () => {
    const { monitor, updates } = create();
    await monitor.publish(stage({ progress: 0 }));
    const cursors = await Promise.all(
      [10, 20, 30].map((progress) => monitor.publish(stage({ progress }))),
    );
    expect(cursors.map(({ revision }) => revision)).toEqual([2, 2, 2]);
    expect(updates).toHaveLength(2);
    expect(updates[1]?.event).toMatchObject({ progress: 30 });
  });

  test("[R11] what is read at it has the event", async () => {
    const { monitor } = create();
    await Promise.all(
      Array.from({ length: 200 }, async (_, index) => {
        const { revision } = await monitor.publish(
          stage({ stage: `s${index % 7}`, progress: index % 101 }),
        );
        const job = await monitor.get("j");
        expect(job!.revision).toBeGreaterThanOrEqual(revision);
        const there = job!.stages.find((each) => each.stage === `s${index % 7}`);
        expect(there!.progress).toBeGreaterThanOrEqual(index % 101);
      }),
    );
  });

  test("[R1] events of one job keep their order, whoever publishes or emits them", async () => {
    const { monitor, engine, updates } = create();
    for (let index = 0; index < 50; index += 1) {
      if (index % 2) engine.emit("job", { jobId: "j", message: `${index}` });
      else void monitor.publish(message(`${index}`));
    }
    await monitor.publish(message("last"));
    expect(updates.map(({ job }) => job.message)).toEqual([
      ...Array.from({ length: 50 }, (_, index) => `${index}`),
      "last",
    ]);
  });

  test("[R1] an update is told after the store has it", async () => {
    const { monitor } = create();
    const seen: (number | undefined)[] = [];
    let reads: Promise<unknown> = Promise.resolve();
    monitor.on("update", ({ cursor }) => {
      reads = monitor.get("j").then((job) => seen.push(job!.revision - cursor.revision));
    });
    await monitor.publish(message("1"));
    await reads;
    expect(seen).toEqual([0]);
  });
});

describe("an engine that is attached", () => {
  test("[R22] can ask the monitor what it has of a job, before it is listened to", async () => {
    const { monitor } = create();
    await publish(monitor, message("one"));
    const engine = createEngine();
    const asked: Promise<unknown>[] = [];
    const detach = monitor.attach({
      on: (event, listener) => engine.on(event, listener),
      off: (event, listener) => engine.off(event, listener),
      attached: ({ get }) => {
        expect(engine.listenerCount("job")).toBe(0);
        asked.push(get("j"), get("k"));
      },
    });
    const [known, unknown] = await Promise.all(asked);
    expect(known).toMatchObject({ jobId: "j", message: "one" });
    expect(unknown).toBeUndefined();
    detach();
  });
});

describe("error events", () => {
  test("[R13] a refused event is one error event, and the promise rejects with the same", async () => {
    const { monitor, errors } = create();
    const thrown: unknown = await monitor
      .publish(stage({ attempt: 0 }))
      .catch((error: unknown) => error);
    expect(errors).toHaveLength(1);
    expect(errors[0]).toBe(thrown);
    expect(errors[0]).toMatchObject({ name: "WorkflowMonitorError", code: "refused" });
  });

  test("[R13] a shortened event is one error event however much was shortened, and is stored", async () => {
    const { monitor, errors } = create();
    await monitor.publish({
      type: "job",
      jobId: "j",
      message: "x".repeat(600),
      reason: "y".repeat(600),
      metadata: 1n,
      labels: { k: "v".repeat(300) },
      timestamp: clock.now() + 3_600_000,
    });
    expect(errors.map(({ code, jobId }) => [code, jobId])).toEqual([["shortened", "j"]]);
    await expect(monitor.get("j")).resolves.toMatchObject({ message: "x".repeat(512) });
  });

  test("[R13] one stage more than the job may have is refused, the events around it are not", async () => {
    const { monitor, errors } = create({ limits: { stages: 2 } });
    const all = ["a", "b", "c", "a"].map((name, index) =>
      codeOf(monitor.publish(stage({ stage: name, message: `${index}` }))),
    );
    expect(await Promise.all(all)).toEqual(["taken", "taken", "refused", "taken"]);
    expect(errors).toHaveLength(1);
    const job = await monitor.get("j");
    expect(job?.stages.map((each) => [each.stage, each.message])).toEqual([
      ["a", "3"],
      ["b", "1"],
    ]);
  });

  test("[R13] an event that was shortened and then refused is one error event", async () => {
    const { monitor, errors } = create({ limits: { stages: 1 } });
    await monitor.publish(stage({ status: "running" }));
    const second = stage({ stage: "b", message: "x".repeat(600) });
    expect(await codeOf(monitor.publish(second))).toBe("refused");
    expect(errors.map(({ code }) => code)).toEqual(["refused"]);
  });

  test("[R13] a first event that is refused makes no job", async () => {
    const { monitor } = create({ limits: { stages: 1 } });
    const stages = [{ stage: "a" }, { stage: "b" }];
    expect(await codeOf(monitor.publish({ type: "plan", jobId: "j", stages }))).toBe("refused");
    await expect(monitor.get("j")).resolves.toBeUndefined();
  });

  test("[R13] refused and taken events are counted", async () => {
    const { monitor, engine } = create();
    await monitor.publish(message("1"));
    await codeOf(monitor.publish(stage({ attempt: 0 })));
    engine.emit("stage", { jobId: "", stage: "a" });
    expect(monitor.stats()).toMatchObject({ jobs: 1, published: 1, refused: 2 });
  });

  test("[R13] nothing is thrown into the engine, whatever listeners do", async () => {
    const { monitor, engine, updates } = create();
    for (const name of ["update", "error"] as const) {
      monitor.on(name, () => {
        throw new Error("from a listener");
      });
      monitor.on(name, () => Promise.reject(new Error("from a listener")));
    }
    expect(() => {
      engine.emit("stage", { jobId: "j", stage: "a", status: "running" });
      engine.emit("stage", { jobId: "j", stage: "", status: "running" });
    }).not.toThrow();
    await turns();
    await monitor.publish(message("still there"));
    expect(updates.at(-1)?.job).toMatchObject({ message: "still there", currentStage: "a" });
  });

  test("[R13] a logger gets a bounded number of lines, the listeners get every error", async () => {
    const lines: string[] = [];
    const line = (_: object, text: string) => lines.push(text);
    const logger = { debug: () => {}, info: () => {}, warn: line, error: line };
    const { engine, errors } = create({ logger });
    for (let count = 0; count < 1_000; count += 1) {
      engine.emit("stage", { jobId: "j", stage: "" });
    }
    expect(errors).toHaveLength(1_000);
    expect(lines.length).toBeLessThanOrEqual(50);
    expect(lines.length).toBeGreaterThan(0);
  });

  test("[R13] publish that nobody awaits ends no process", async () => {
    const unhandled: unknown[] = [];
    const listener = (reason: unknown) => unhandled.push(reason);
    process.on("unhandledRejection", listener);
    try {
      const { monitor } = create({ limits: { queuedEvents: 1 } });
      void monitor.publish(stage({ attempt: 0 }));
      void monitor.publish(message("1"));
      void monitor.publish(message("overloaded"));
      await turns();
      await monitor.close();
      void monitor.publish(message("closed"));
      await turns();
    } finally {
      process.off("unhandledRejection", listener);
    }
    expect(unhandled).toEqual([]);
  });
});

/** A store whose appends wait until they are let go. */
function gated() {
  const inner = memoryStore({ clock });
  let open = false;
  let waiting: (() => void)[] = [];
  const store = over(inner, () => ({
    async append(...args) {
      if (!open) await new Promise<void>((resolve) => waiting.push(resolve));
      return inner.append(...args);
    },
  }));
  const release = () => {
    open = true;
    for (const go of waiting) go();
    waiting = [];
  };
  return { store, release };
}

describe("limits of the queue", () => {
  test("[R13] over queuedEvents an event is overloaded, and none that was taken is lost", async () => {
    const { store, release } = gated();
    const { monitor, engine, errors } = create({ store, limits: { queuedEvents: 3 } });
    const taken = ["1", "2", "3"].map((text) => monitor.publish(message(text)));
    expect(await codeOf(monitor.publish(message("4")))).toBe("overloaded");
    await turns();
    expect(await codeOf(monitor.publish(message("5", { jobId: "k" })))).toBe("overloaded");
    expect(() => engine.emit("job", { jobId: "j", message: "6" })).not.toThrow();
    expect(errors.map(({ code }) => code)).toEqual(["overloaded", "overloaded", "overloaded"]);
    release();
    await Promise.all(taken);
    await monitor.publish(message("7"));
    expect(await messages(store)).toEqual(["1", "2", "3", "7"]);
  });

  test("[R13] over queuedBytes an event is overloaded", async () => {
    const { store, release } = gated();
    const { monitor } = create({ store, limits: { queuedBytes: 1_500 } });
    const text = (char: string) => message(char.repeat(500));
    const taken = [monitor.publish(text("a")), monitor.publish(text("b"))];
    expect(await codeOf(monitor.publish(text("c")))).toBe("overloaded");
    const small = monitor.publish(message("d"));
    release();
    await Promise.all([...taken, small]);
    expect((await messages(store)).map((each) => each?.[0])).toEqual(["a", "b", "d"]);
  });

  test("[R13] a refused event takes no place in the queue", async () => {
    const { store, release } = gated();
    const { monitor } = create({ store, limits: { queuedEvents: 1 } });
    for (let count = 0; count < 5; count += 1) {
      expect(await codeOf(monitor.publish(stage({ attempt: 0 })))).toBe("refused");
    }
    const taken = monitor.publish(message("1"));
    release();
    await expect(taken).resolves.toMatchObject({ revision: 1 });
  });

  test("[R4] a job whose store hangs does not keep another waiting", async () => {
    const inner = memoryStore({ clock });
    const store = over(inner, () => ({
      append: (jobId, ...rest) =>
        jobId === "j" ? new Promise(() => {}) : inner.append(jobId, ...rest),
    }));
    const { monitor } = create({ store, drainMs: 10 });
    void monitor.publish(message("hangs"));
    await expect(monitor.publish(message("goes", { jobId: "k" }))).resolves.toMatchObject({
      revision: 1,
    });
  });
});

describe("closing", () => {
  test("[R13] a closed monitor takes nothing", async () => {
    const { monitor, engine, updates, errors } = create();
    await monitor.close();
    expect(await codeOf(monitor.publish(message("late")))).toBe("closed");
    expect(() => engine.emit("job", { jobId: "j", message: "late" })).not.toThrow();
    await turns();
    expect(updates).toEqual([]);
    expect(errors).toEqual([]);
  });

  test("[R1] what was published before is stored", async () => {
    const store = memoryStore({ clock });
    const { monitor, engine } = create({ store });
    const first = monitor.publish(message("1"));
    engine.emit("job", { jobId: "j", message: "2" });
    engine.emit("job", { jobId: "k", message: "3" });
    await monitor.close();
    await expect(first).resolves.toMatchObject({ revision: 1 });
    expect(await messages(store)).toEqual(["1", "2"]);
    expect(await messages(store, "k")).toEqual(["3"]);
  });

  test("[R13] what the store does not take in time is rejected with closed, and no timer is left", async () => {
    const own = new ManualClock();
    const inner = memoryStore({ clock: own });
    const store = over(inner, () => ({ read: () => Promise.reject(new Error("away")) }));
    const monitor = createWorkflowMonitor({ authorize: allowAll, clock: own, store, drainMs: 500 });
    const waits = codeOf(monitor.publish(message("1")));
    await turns();
    await settle(own, monitor.close());
    expect(await waits).toBe("closed");
    await inner.close();
    expect(own.timers).toBe(0);
  });

  test("[R13] a detached engine tells nothing any more", async () => {
    const { monitor, engine, detach, updates } = create();
    engine.emit("job", { jobId: "j", message: "1" });
    detach();
    detach();
    engine.emit("job", { jobId: "j", message: "2" });
    await monitor.publish(message("3"));
    expect(updates.map(({ job }) => job.message)).toEqual(["1", "3"]);
    expect(engine.listenerCount("job")).toBe(0);
  });
});

describe("several publishers of one job", () => {
  test("[R1] there is one order of all their events, and nothing is lost", async () => {
    const store = memoryStore({ clock });
    const both = [create({ store }), create({ store })];
    const published: Promise<Cursor>[] = [];
    for (let round = 0; round < 10; round += 1) {
      both.forEach(({ monitor }, who) => {
        published.push(monitor.publish(message(`${who}.${round}.a`)));
        published.push(monitor.publish(message(`${who}.${round}.b`)));
      });
      await settle(clock, Promise.all(published), { stepMs: 100, steps: 200 });
    }
    const cursors = await Promise.all(published);
    const log = await messages(store);
    expect(log).toHaveLength(40);
    expect(new Set(log).size).toBe(40);
    expect(new Set(cursors.map(printCursor)).size).toBe(40);
    both.forEach(({ updates }, who) => {
      const own = updates.map(({ job }) => job.message);
      expect(own).toEqual(log.filter((each) => each?.startsWith(`${who}.`)));
      expect(own).toEqual([...own].sort());
      for (const { cursor, job } of updates) {
        expect(log[cursor.revision - 1]).toBe(job.message);
        expect(job.revision).toBe(cursor.revision);
      }
    });
  });

  test("[R1] what one says after the other has effect, though it said the same before", async () => {
    const store = memoryStore({ clock });
    const [one, other] = [create({ store }).monitor, create({ store }).monitor];
    await publish(one, message("x"));
    await publish(other, message("y"));
    await publish(one, message("x"));
    await expect(one.get("j")).resolves.toMatchObject({ message: "x" });
  });

  test("[R1] a status that one says again after the other's has effect too", async () => {
    const store = memoryStore({ clock });
    const [one, other] = [create({ store }).monitor, create({ store }).monitor];
    await publish(other, stage({ attempt: 2, status: "running" }));
    await publish(one, stage({ status: "waiting" }));
    await publish(other, stage({ status: "running" }));
    await expect(one.get("j")).resolves.toMatchObject({ stages: [{ status: "running" }] });
  });

  test("[R11] the cursor of a no-op contains it, also when another publisher made it one", async () => {
    const store = memoryStore({ clock });
    const [one, other] = [create({ store }).monitor, create({ store }).monitor];
    await publish(one, message("x"));
    const second = await publish(other, stage({ status: "running" }));
    await expect(publish(one, stage({ status: "running" }))).resolves.toEqual(second);
  });

  test("[R1] both may create the job", async () => {
    const store = memoryStore({ clock });
    const both = [create({ store }).monitor, create({ store }).monitor];
    const work = Promise.all(both.map((monitor, who) => monitor.publish(message(`${who}`))));
    const cursors = await settle(clock, work, { stepMs: 100 });
    expect(cursors.map(({ revision }) => revision).sort()).toEqual([1, 2]);
    expect(new Set(cursors.map(({ epoch }) => epoch)).size).toBe(1);
  });

  test("[R1] a publisher that loses 64 times in a row is told so", async () => {
    const inner = memoryStore({ clock });
    let tries = 0;
    const store = over(inner, () => ({
      append: () => {
        tries += 1;
        return Promise.resolve(false as const);
      },
    }));
    const { monitor } = create({ store });
    const promise = monitor.publish(message("1"));
    expect(await codeOf(settle(clock, promise, { stepMs: 200, steps: 200 }))).toBe("conflict");
    expect(tries).toBe(64);
    await expect(monitor.get("j")).resolves.toBeUndefined();
  });
});

describe("a store that fails", () => {
  /** Fails the first appends in this way. */
  function failing(times: number, how: "before" | "after", meanwhile = async () => {}) {
    const inner = memoryStore({ clock });
    let left = times;
    const store = over(inner, () => ({
      async append(...args) {
        left -= 1;
        if (left < 0) return inner.append(...args);
        if (how === "after") await inner.append(...args);
        await meanwhile();
        throw new Error(`failed ${how}`);
      },
    }));
    return { inner, store };
  }

  test.each(["before", "after"] as const)(
    "[R1] an append that fails %s it stored is counted once",
    async (how) => {
      const { store } = failing(1, how);
      const { monitor, updates, errors } = create({ store });
      const all = Promise.all([
        monitor.publish(message("1")),
        monitor.publish(stage({ attempt: 1, status: "running" })),
        monitor.publish(message("2")),
      ]);
      const cursors = await settle(clock, all);
      expect(cursors.map(({ revision }) => revision)).toEqual([1, 2, 3]);
      expect(await messages(store)).toEqual(["1", undefined, "2"]);
      expect(updates.map(({ cursor }) => cursor.revision)).toEqual([1, 2, 3]);
      expect(errors).toEqual([]);
      await settle(clock, monitor.publish(message("3")));
      await expect(monitor.get("j")).resolves.toMatchObject({ revision: 4, message: "3" });
    },
  );

  test("[R1] appends that fail several times are stored in the end, once", async () => {
    const { store } = failing(5, "before");
    const { monitor, updates } = create({ store });
    await settle(clock, monitor.publish(message("1")));
    expect(await messages(store)).toEqual(["1"]);
    expect(updates).toHaveLength(1);
  });

  test("[R1] of an unknown outcome that others built on, updates and cursors are still those of the log", async () => {
    let other: WorkflowMonitor | undefined;
    const { inner, store } = failing(1, "after", async () => {
      await other?.publish(message("theirs"));
    });
    const { monitor, updates } = create({ store });
    other = create({ store: inner }).monitor;
    const cursors = await settle(
      clock,
      Promise.all([monitor.publish(message("mine 1")), monitor.publish(message("mine 2"))]),
    );
    expect(await messages(inner)).toEqual(["mine 1", "mine 2", "theirs"]);
    for (const { cursor, job } of updates) {
      expect(job.message).toBe(["mine 1", "mine 2", "theirs"][cursor.revision - 1]);
    }
    // Contained in it, if not its own.
    expect(cursors[0]!.revision).toBeGreaterThanOrEqual(1);
    expect(cursors[1]!.revision).toBeGreaterThanOrEqual(2);
    expect(cursors[1]!.revision).toBeLessThanOrEqual(3);
  });

  test("[R2] an append of an unknown outcome does not bring an id twice", async () => {
    const { store } = failing(1, "after");
    const { monitor } = create({ store });
    await settle(clock, monitor.publish(message("1", { id: "e1" })));
    await settle(clock, monitor.publish(message("2", { id: "e1" })));
    expect(await messages(store)).toEqual(["1"]);
  });

  test("[R1] while a store does not answer, events wait, then they arrive in order", async () => {
    const inner = memoryStore({ clock });
    let away = true;
    let reads = 0;
    const store = over(inner, () => ({
      read(...args) {
        reads += 1;
        return away ? Promise.reject(new Error("away")) : inner.read(...args);
      },
    }));
    const { monitor, engine, errors } = create({ store });
    const first = monitor.publish(message("1"));
    engine.emit("job", { jobId: "j", message: "2" });
    for (let second = 0; second < 30; second += 1) {
      clock.advance(1_000);
      await turns(2);
    }
    expect(reads).toBeGreaterThan(3);
    expect(reads).toBeLessThan(30); // it waits longer and longer
    const third = monitor.publish(message("3"));
    away = false;
    await expect(settle(clock, first)).resolves.toMatchObject({ revision: 1 });
    await expect(settle(clock, third)).resolves.toMatchObject({ revision: 3 });
    expect(await messages(inner)).toEqual(["1", "2", "3"]);
    expect(errors).toEqual([]);
  });

  test("[R1] a store that throws instead of rejecting is a store that fails", async () => {
    const inner = memoryStore({ clock });
    let left = 2;
    const fail = () => {
      left -= 1;
      if (left >= 0) throw new Error("thrown");
    };
    const store = over(inner, () => ({
      read(...args) {
        fail();
        return inner.read(...args);
      },
      append(...args) {
        fail();
        return inner.append(...args);
      },
    }));
    const { monitor } = create({ store });
    await expect(settle(clock, monitor.publish(message("1")))).resolves.toMatchObject({
      revision: 1,
    });
  });

  test("[R1] a store that was closed closes what waits for it", async () => {
    const store = memoryStore({ clock });
    const { monitor } = create({ store });
    await monitor.publish(message("1"));
    await store.close();
    expect(await codeOf(settle(clock, monitor.publish(message("2"))))).toBe("closed");
  });

  test("[R1] a log that was lost begins a new epoch on the job as it was", async () => {
    const logs = [memoryStore({ clock }), memoryStore({ clock })];
    let at = 0;
    const store = over(logs[0]!, () => ({
      read: (...args) => logs[at]!.read(...args),
      append: (...args) => logs[at]!.append(...args),
    }));
    const { monitor } = create({ store });
    await monitor.publish({ type: "plan", jobId: "j", name: "n", stages: [{ stage: "a" }] });
    const before = await monitor.publish(stage({ progress: 50 }));
    at = 1;
    const after = await monitor.publish(stage({ progress: 60 }));
    expect(after.epoch).not.toBe(before.epoch);
    expect(after.revision).toBe(1);
    await expect(monitor.get("j")).resolves.toMatchObject({
      name: "n",
      revision: 1,
      stages: [{ progress: 60 }],
    });
    for (const log of logs) await log.close();
  });
});

describe("what existing clients know", () => {
  const request = {
    action: "watch",
    transport: "poll",
    headers: {},
    query: {},
    remoteAddress: undefined,
    jobId: "j",
  } as const;

  /** A viewer that keeps the texts of its frames. */
  function viewer(mode: Member["mode"]) {
    const texts: string[] = [];
    const member: Member = {
      codec: { wrap: () => ({ head: Buffer.alloc(0), tail: Buffer.from("\n") }) },
      mode,
      writable: true,
      write(parts) {
        texts.push(...Buffer.concat(parts).toString().trimEnd().split("\n"));
      },
      end() {},
    };
    return { member, texts, frames: () => texts.map((text) => JSON.parse(text) as Frame) };
  }

  /** The text of `job` in a frame. */
  const jobText = (text: string) => text.slice(text.indexOf('"job":') + '"job":'.length, -1);

  test.each([undefined, "presented"])(
    "[R16] every transport carries the same bytes as `job` (%s)",
    async (kind) => {
      const { monitor } = create(
        kind
          ? { present: ({ jobId, progress }) => ({ id: jobId, percent: progress, état: "ü" }) }
          : {},
      );
      await monitor.publish(stage({ status: "running", message: "ü" }));
      const full = viewer("full");
      const seat = await monitor.egress.join(request, full.member, null);
      const { bytes } = await monitor.egress.read(request);
      expect(jobText(full.texts[0]!)).toBe(bytes.toString());
      await monitor.publish(stage({ progress: 10 }));
      await turns();
      expect(full.frames().map(({ type }) => type)).toEqual(["snapshot", "update"]);
      const later = await monitor.egress.read(request);
      expect(jobText(full.texts[1]!)).toBe(later.bytes.toString());
      if (kind) {
        expect(JSON.parse(later.bytes.toString())).toEqual({ id: "j", percent: 0, état: "ü" });
      } else {
        expect(JSON.parse(later.bytes.toString())).toEqual(await monitor.get("j"));
      }
      seat.leave({ code: 1000, reason: "done" } as never);
    },
  );

  test("[R16] a viewer that asked for deltas is served in full when the job is presented", async () => {
    const { monitor } = create({ present: ({ progress }) => ({ percent: progress }) });
    await monitor.publish(stage({ status: "running" }));
    const { member, frames } = viewer("delta");
    await monitor.egress.join(request, member, null);
    await monitor.publish(stage({ message: "m" }));
    await turns();
    expect(frames()[1]).toMatchObject({ type: "update", job: { percent: 0 } });
    expect(frames()[1]).not.toHaveProperty("patch");
  });

  test("[R16] without a shape of its own a viewer that asked for deltas gets them", async () => {
    const { monitor } = create();
    await monitor.publish(stage({ status: "running" }));
    const { member, frames } = viewer("delta");
    await monitor.egress.join(request, member, null);
    await monitor.publish(stage({ message: "m" }));
    await turns();
    expect(frames()[1]).toMatchObject({ type: "update", patch: { stages: [{ message: "m" }] } });
    expect(frames()[1]).not.toHaveProperty("job");
  });

  test("[R16] `get` and `update` have the snapshot as it is", async () => {
    const { monitor, updates } = create({ present: () => ({ nothing: true }) });
    await monitor.publish(stage({ status: "running" }));
    await expect(monitor.get("j")).resolves.toMatchObject({ jobId: "j", currentStage: "a" });
    expect(updates[0]?.job).toMatchObject({ jobId: "j", currentStage: "a" });
  });
});
