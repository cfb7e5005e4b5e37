import { isActive, isTerminal, STATUSES } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { reduce } from "../../packages/core/src/reduce.js";
import { at, EMPTY, from, ids, job, plan, play, stage, stageOf, statuses } from "./given.js";

const TERMINAL = STATUSES.filter(isTerminal);
const ACTIVE = STATUSES.filter(isActive);
const PAIRS = STATUSES.flatMap((old) => STATUSES.map((now) => [old, now] as const));

/** Whether `now`, said of something that is `old`, changes its status. */
const moves = (old: (typeof STATUSES)[number], now: (typeof STATUSES)[number]) =>
  !isTerminal(old) && now !== old && !(isActive(old) && now === "pending");

describe("the status matrix", () => {
  // The engine said that the job runs, so that no stage ends it.
  const running = (old: (typeof STATUSES)[number]) =>
    play(job({ status: "running" }), stage("a", { status: old }));

  test.each(PAIRS)("[R3] [R4] a stage that is %s and is said to be %s", (old, now) => {
    const before = running(old);
    expect(stageOf(before, "a").status).toBe(old);
    const next = reduce(before, stage("a", { status: now, timestamp: at(2) }));
    if (moves(old, now)) expect(stageOf(next, "a").status).toBe(now);
    else expect(next).toBe(before);
  });

  test.each(PAIRS)("[R3] [R4] a job that is %s and is said to be %s", (old, now) => {
    const before = old === "pending" ? play(plan(["a"])) : play(job({ status: old }));
    expect(before.status).toBe(old);
    const next = reduce(before, job({ status: now, timestamp: at(2) }));
    if (moves(old, now)) {
      expect(next.status).toBe(now);
      expect(next.done).toBe(isTerminal(now));
      expect(next.derived).toBe(false);
    } else expect(next).toBe(before);
  });

  test.each(PAIRS)("[R3] a stage of a done job (%s) said to be %s changes nothing", (old, now) => {
    const before = from(running(old), job({ status: "completed" }));
    expect(reduce(before, stage("a", { status: now, timestamp: at(9) }))).toBe(before);
  });
});

describe("R2: what changes nothing", () => {
  const RUNNING = play(
    plan(["a", "b"], { name: "n", labels: { k: "v" }, metadata: { deep: [1, { x: null }] } }),
    job({ status: "running", message: "m", error: { code: "C", message: "e" } }),
    stage("a", { status: "running", progress: 30, message: "m", metadata: { deep: [1] } }),
  );

  test.each([
    ["the same plan", plan(["a", "b"], { timestamp: at(5) })],
    ["the same name", plan(["a", "b"], { timestamp: at(5), name: "n" })],
    ["equal labels", job({ timestamp: at(5), labels: { k: "v" } })],
    ["equal job metadata", job({ timestamp: at(5), metadata: { deep: [1, { x: null }] } })],
    ["the same message of the job", job({ timestamp: at(5), message: "m" })],
    ["an equal error of the job", job({ timestamp: at(5), error: { code: "C", message: "e" } })],
    ["the same status of the job", job({ timestamp: at(5), status: "running" })],
    ["the same status of a stage", stage("a", { timestamp: at(5), status: "running" })],
    ["the same progress", stage("a", { timestamp: at(5), progress: 30 })],
    ["the same message of a stage", stage("a", { timestamp: at(5), message: "m" })],
    ["equal stage metadata", stage("a", { timestamp: at(5), metadata: { deep: [1] } })],
    ["an event of a stage that says nothing", stage("a", { timestamp: at(5) })],
    ["an event of the job that says nothing", job({ timestamp: at(5) })],
    ["the current run", job({ timestamp: at(5), run: 1 })],
    ["the current attempt", stage("a", { timestamp: at(5), attempt: 1 })],
    [
      "clearing what is not there",
      stage("b", { timestamp: at(5), message: null, error: null, metadata: null }),
    ],
    ["an id and a timestamp alone", stage("a", { timestamp: at(5), id: "x" })],
  ])("[R2] %s, with a newer timestamp, changes nothing", (_, event) => {
    expect(reduce(RUNNING, event)).toBe(RUNNING);
  });

  test("[R2] the state before is never written to", () => {
    const text = JSON.stringify(RUNNING);
    from(
      RUNNING,
      stage("a", { attempt: 2, status: "running", timestamp: at(2) }),
      plan(["b"], { timestamp: at(3) }),
      job({ run: 2, timestamp: at(4) }),
    );
    expect(JSON.stringify(RUNNING)).toBe(text);
  });
});

describe("R3: runs and attempts", () => {
  const ATTEMPT_3 = play(job({ status: "running" }), stage("a", { attempt: 3, status: "running" }));

  test.each([1, 2])("[R3] attempt %i, lower than the current 3, changes nothing", (attempt) => {
    const late = stage("a", { attempt, status: "failed", message: "late", progress: 90 });
    expect(reduce(ATTEMPT_3, late)).toBe(ATTEMPT_3);
  });

  test("[R3] the current attempt, given or not, is applied", () => {
    for (const attempt of [{ attempt: 3 }, {}]) {
      const next = reduce(ATTEMPT_3, stage("a", { ...attempt, status: "completed" }));
      expect(stageOf(next, "a")).toMatchObject({ status: "completed", attempt: 3 });
    }
  });

  test("[R3] an attempt may be left out: the next one begins all the same", () => {
    const next = reduce(ATTEMPT_3, stage("a", { attempt: 7, status: "running" }));
    expect(stageOf(next, "a")).toMatchObject({ status: "running", attempt: 7 });
    expect(stageOf(next, "a").attempts.map(({ attempt }) => attempt)).toEqual([3]);
  });

  test("[R3] an unknown stage begins with the attempt that its first event gives, else 1", () => {
    expect(stageOf(play(stage("a", { attempt: 4, status: "running" })), "a").attempt).toBe(4);
    expect(stageOf(play(stage("a", { attempt: 4, status: "running" })), "a").attempts).toEqual([]);
    expect(stageOf(play(stage("a")), "a").attempt).toBe(1);
  });

  const RUN_3 = play(job({ run: 3, status: "running" }));

  test.each([
    ["job", job({ run: 2, status: "failed" })],
    ["stage", stage("a", { run: 1, status: "running" })],
    ["plan", plan(["a"], { run: 2 })],
  ])("[R3] a %s event of a lower run changes nothing", (_, event) => {
    expect(reduce(RUN_3, event)).toBe(RUN_3);
  });

  test("[R3] the current run, given or not, is applied", () => {
    expect(reduce(RUN_3, stage("a", { run: 3, status: "running" })).run).toBe(3);
    expect(reduce(RUN_3, stage("a", { status: "running" })).run).toBe(3);
  });

  test("[R3] a job may begin with any run", () => {
    expect(play(stage("a", { run: 5, status: "running" }))).toMatchObject({
      run: 5,
      status: "running",
    });
  });

  const FAILED = play(
    plan(
      ["a", ["b", { weight: 3, maxAttempts: 2, allowFailure: true, dependsOn: ["a"], name: "B" }]],
      {
        name: "n",
        labels: { k: "v" },
        metadata: { m: 1 },
      },
    ),
    stage("extra", { status: "running", timestamp: at(1) }),
    stage("a", {
      status: "completed",
      progress: 40,
      message: "done",
      timestamp: at(2),
      metadata: 1,
    }),
    stage("b", { status: "running", progress: 50, timestamp: at(3) }),
    job({
      status: "failed",
      reason: "broken",
      message: "m",
      error: { code: "C", message: "e" },
      timestamp: at(4),
    }),
  );

  test.each([
    ["job", job({ run: 2, timestamp: at(10) })],
    ["stage", stage("a", { run: 2, timestamp: at(10) })],
    [
      "plan",
      plan(
        [
          "a",
          ["b", { weight: 3, maxAttempts: 2, allowFailure: true, dependsOn: ["a"], name: "B" }],
        ],
        { run: 2, timestamp: at(10) },
      ),
    ],
  ])("[R3] a higher run on a %s event restarts the job", (_, event) => {
    const next = reduce(FAILED, event);
    expect(next).toMatchObject({
      run: 2,
      status: "pending",
      reason: null,
      done: false,
      derived: true,
      planned: true,
      progress: 0,
      currentStage: null,
      activeStages: [],
      message: null,
      error: null,
      name: "n",
      labels: { k: "v" },
      metadata: { m: 1 },
      createdAt: FAILED.createdAt,
      startedAt: null,
      finishedAt: null,
      updatedAt: at(10),
    });
    expect(statuses(next)).toEqual({ a: "pending", b: "pending" });
    expect(stageOf(next, "a")).toMatchObject({
      attempt: 1,
      progress: 0,
      indeterminate: false,
      startedAt: null,
      finishedAt: null,
      error: null,
      attempts: [],
    });
    expect(stageOf(next, "b")).toMatchObject({
      name: "B",
      weight: 3,
      maxAttempts: 2,
      allowFailure: true,
      dependsOn: ["a"],
      planned: true,
    });
  });

  test("[R3] the event that restarts the job is itself applied", () => {
    const byStage = reduce(FAILED, stage("b", { run: 2, status: "running", timestamp: at(10) }));
    expect(byStage).toMatchObject({
      run: 2,
      status: "running",
      currentStage: "b",
      startedAt: at(10),
    });
    const byJob = reduce(
      FAILED,
      job({ run: 4, status: "running", message: "again", timestamp: at(10) }),
    );
    expect(byJob).toMatchObject({ run: 4, status: "running", message: "again", derived: false });
    const byPlan = reduce(FAILED, plan(["z"], { run: 2, timestamp: at(10) }));
    expect(ids(byPlan)).toEqual(["z"]);
  });

  test("[R3] a higher run restarts a job that has not ended too", () => {
    const running = play(plan(["a", "b"]), stage("a", { status: "running", progress: 80 }));
    const next = reduce(running, stage("b", { run: 2, status: "running", timestamp: at(9) }));
    expect(next).toMatchObject({ run: 2, status: "running", progress: 0, currentStage: "b" });
    expect(stageOf(next, "a")).toMatchObject({ status: "pending", progress: 0 });
  });

  test("[R3] a run that has ended can be done again and again", () => {
    let state = EMPTY;
    for (const run of [1, 2, 3]) {
      state = from(state, job({ run, status: "running" }), job({ run, status: "failed" }));
      expect(state).toMatchObject({ run, status: "failed", done: true });
    }
  });

  test.each(TERMINAL)("[R3] a job that is %s takes no event of its run", (status) => {
    const done = play(plan(["a", "b"]), stage("a", { status: "running" }), job({ status }));
    for (const event of [
      job({ message: "late", timestamp: at(9) }),
      job({ error: { code: "C", message: "late" }, timestamp: at(9) }),
      job({ progress: 99, labels: { late: "yes" }, metadata: 1, timestamp: at(9) }),
      job({ run: 1, status: "running", timestamp: at(9) }),
      stage("a", { progress: 99, message: "late", timestamp: at(9) }),
      stage("a", { attempt: 2, status: "running", timestamp: at(9) }),
      stage("new", { status: "running", timestamp: at(9) }),
      plan(["c"], { name: "late", timestamp: at(9) }),
    ]) {
      expect(reduce(done, event)).toBe(done);
    }
  });

  test.each(TERMINAL)("[R3] a stage that is %s takes no event of its attempt", (status) => {
    const before = play(
      job({ status: "running" }),
      stage("a", { status, message: "m", progress: 20 }),
    );
    for (const event of [
      stage("a", { message: "late", timestamp: at(9) }),
      stage("a", { progress: 90, timestamp: at(9) }),
      stage("a", { error: { code: "C", message: "late" }, timestamp: at(9) }),
      stage("a", { metadata: { late: true }, timestamp: at(9) }),
      stage("a", { reason: "late", timestamp: at(9) }),
      stage("a", { attempt: 1, status, reason: "late", timestamp: at(9) }),
    ]) {
      expect(reduce(before, event)).toBe(before);
    }
  });
});

describe("R4: nothing is waited for", () => {
  test("[R4] a stage may complete without ever running: its startedAt stays null", () => {
    const state = play(plan(["a", "b"]), stage("b", { status: "completed", timestamp: at(3) }));
    expect(stageOf(state, "b")).toMatchObject({
      status: "completed",
      startedAt: null,
      finishedAt: at(3),
    });
    expect(stageOf(state, "a").status).toBe("pending");
  });

  test("[R4] a stage begins although what it depends on has not ended", () => {
    const state = play(plan(["a", ["b", { dependsOn: ["a"] }]]), stage("b", { status: "running" }));
    expect(statuses(state)).toEqual({ a: "pending", b: "running" });
  });

  test("[R4] a completed stage does not run again", () => {
    const before = play(plan(["a", "b"]), stage("a", { status: "completed" }));
    expect(reduce(before, stage("a", { status: "running", timestamp: at(5) }))).toBe(before);
  });

  test("[R4] startedAt is when it first was active, and stays", () => {
    const state = play(
      job({ status: "running", timestamp: at(1) }),
      stage("a", { status: "waiting", timestamp: at(2) }),
      stage("a", { status: "running", timestamp: at(3) }),
      job({ status: "waiting", timestamp: at(4) }),
      job({ status: "running", timestamp: at(5) }),
    );
    expect(state).toMatchObject({ startedAt: at(1), finishedAt: null });
    expect(stageOf(state, "a")).toMatchObject({ startedAt: at(2), finishedAt: null });
  });

  test("[R4] finishedAt is when the end was said to be", () => {
    const state = play(
      job({ status: "running", timestamp: at(1) }),
      stage("a", { status: "running", timestamp: at(2) }),
      stage("a", { status: "failed", timestamp: at(3) }),
      job({ status: "failed", timestamp: at(4) }),
    );
    expect(stageOf(state, "a").finishedAt).toBe(at(3));
    expect(state.finishedAt).toBe(at(4));
  });

  test("[R4] a job that has begun by its stages does not become pending again", () => {
    const before = play(stage("a", { status: "running" }));
    expect(reduce(before, job({ status: "pending", timestamp: at(3) }))).toBe(before);
  });
});

describe("R5: unknown is new", () => {
  test("[R5] an unknown stage is appended to the plan", () => {
    const state = play(plan(["a", "b"]), stage("z", { status: "running" }), stage("c"));
    expect(ids(state)).toEqual(["a", "b", "z", "c"]);
    expect(stageOf(state, "z")).toMatchObject({
      name: "z",
      weight: 1,
      dependsOn: [],
      attempt: 1,
      maxAttempts: null,
      allowFailure: false,
      planned: false,
      attempts: [],
    });
    expect(stageOf(state, "a").planned).toBe(true);
    expect(state.counts.total).toBe(4);
  });

  test("[R5] an unknown stage makes a revision even when nothing else is said of it", () => {
    expect(ids(play(stage("a")))).toEqual(["a"]);
    expect(stageOf(play(stage("a")), "a").status).toBe("pending");
  });

  test("[R5] a job without a plan is not planned", () => {
    expect(play(stage("a", { status: "running" })).planned).toBe(false);
    expect(play(plan(["a"])).planned).toBe(true);
  });

  test("[R5] a later plan reorders and adds", () => {
    const state = play(plan(["a", "b"]), plan(["c", "b", "a"]));
    expect(ids(state)).toEqual(["c", "b", "a"]);
  });

  test("[R5] a later plan removes the pending stages that it does not name", () => {
    expect(ids(play(plan(["a", "b", "c"]), plan(["b"])))).toEqual(["b"]);
    expect(ids(play(stage("a"), plan(["b"])))).toEqual(["b"]);
    expect(play(plan(["a", "b"]), plan([])).stages).toEqual([]);
  });

  test.each(STATUSES.filter((status) => status !== "pending"))(
    "[R5] a stage that is %s stays, after those that the later plan names",
    (status) => {
      const state = play(
        job({ status: "running" }),
        plan(["x", "a", "y"]),
        stage("a", { status }),
        stage("x", { status }),
        plan(["b", "c"]),
      );
      expect(ids(state)).toEqual(["b", "c", "x", "a"]);
      expect(stageOf(state, "a").status).toBe(status);
    },
  );

  test("[R5] a later plan changes what it says of a stage that is there, and not how far it is", () => {
    const state = play(
      plan(["a", "b"]),
      stage("a", { status: "running", progress: 40, message: "m", timestamp: at(2) }),
      plan([
        ["a", { name: "A", weight: 5, dependsOn: ["b"], allowFailure: true, maxAttempts: 3 }],
        "b",
      ]),
    );
    expect(stageOf(state, "a")).toMatchObject({
      name: "A",
      weight: 5,
      dependsOn: ["b"],
      allowFailure: true,
      maxAttempts: 3,
      status: "running",
      progress: 40,
      message: "m",
      startedAt: at(2),
      planned: true,
    });
  });

  test("[R5] a stage that came before the plan is planned once the plan names it", () => {
    const state = play(stage("a", { status: "running" }), plan(["b", "a"]));
    expect(ids(state)).toEqual(["b", "a"]);
    expect(stageOf(state, "a")).toMatchObject({ status: "running", planned: true });
  });

  test("[R5] a plan that only reorders is a change", () => {
    const before = play(plan(["a", "b"]));
    expect(reduce(before, plan(["b", "a"]))).not.toBe(before);
  });

  test("[R5] one more stage than a job may have is refused, by a stage and by a plan", () => {
    const before = reduce(EMPTY, plan(["a", "b"]), 3);
    const full = reduce(before, stage("c"), 3);
    expect(ids(full)).toEqual(["a", "b", "c"]);
    expect(() => reduce(full, stage("d"), 3)).toThrow(expect.objectContaining({ code: "refused" }));
    const running = reduce(full, stage("a", { status: "running" }), 3);
    expect(() => reduce(running, plan(["x", "y", "z"]), 3)).toThrow(
      expect.objectContaining({ code: "refused" }),
    );
    expect(ids(reduce(running, plan(["x", "y"]), 3))).toEqual(["x", "y", "a"]);
  });
});

describe("R6: the current stage", () => {
  test("[R6] it is the first active stage in plan order, not the one that began first", () => {
    const state = play(
      plan(["a", "b", "c"]),
      stage("c", { status: "running", timestamp: at(1) }),
      stage("b", { status: "waiting", timestamp: at(2) }),
    );
    expect(state).toMatchObject({ currentStage: "b", activeStages: ["b", "c"] });
  });

  test("[R6] it does not flicker while several stages report", () => {
    let state = play(
      plan(["a", "b"]),
      stage("a", { status: "running" }),
      stage("b", { status: "running" }),
    );
    for (const event of [
      stage("b", { progress: 10 }),
      stage("a", { progress: 10 }),
      stage("b", { message: "m" }),
      stage("a", { status: "waiting" }),
      stage("b", { status: "waiting" }),
      stage("b", { status: "running" }),
    ]) {
      state = reduce(state, event);
      expect(state.currentStage).toBe("a");
    }
    expect(reduce(state, stage("a", { status: "completed" })).currentStage).toBe("b");
  });

  test("[R6] nothing active: null", () => {
    expect(play(plan(["a", "b"])).currentStage).toBeNull();
    expect(play(plan(["a", "b"]), stage("a", { status: "completed" })).currentStage).toBeNull();
    expect(play(plan(["a", "b"]), stage("a", { status: "failed" }))).toMatchObject({
      status: "running",
      currentStage: null,
    });
  });

  test("[R6] of a failed job it is the first failed stage", () => {
    const state = play(
      plan(["a", "b", "c", "d"]),
      stage("d", { status: "failed" }),
      stage("a", { status: "running" }),
      stage("b", { status: "completed" }),
      stage("c", { status: "failed" }),
      job({ status: "failed" }),
    );
    expect(state).toMatchObject({ status: "failed", currentStage: "c", activeStages: [] });
  });

  test("[R6] of a failed job without a failed stage it is null", () => {
    const state = play(stage("a", { status: "running" }), job({ status: "failed" }));
    expect(state.currentStage).toBeNull();
  });

  test.each(["completed", "cancelled", "skipped"] as const)(
    "[R6] of a job that is %s it is null, a failed stage or not",
    (status) => {
      const state = play(
        job({ status: "running" }),
        stage("a", { status: "failed" }),
        stage("b", { status: "running" }),
        job({ status }),
      );
      expect(state).toMatchObject({ currentStage: null, activeStages: [] });
    },
  );

  test("[R6] a plan that reorders moves it", () => {
    const state = play(
      plan(["a", "b"]),
      stage("a", { status: "running" }),
      stage("b", { status: "running" }),
      plan(["b", "a"]),
    );
    expect(state).toMatchObject({ currentStage: "b", activeStages: ["b", "a"] });
  });

  test("[R6] activeStages has the first 20 in plan order, counts has the number", () => {
    const names = Array.from({ length: 22 }, (_, index) => `s${index}`);
    const begin = (id: string) => stage(id, { status: "running" });
    const twenty = play(plan(names), ...names.slice(2).map(begin));
    expect(twenty.activeStages).toEqual(names.slice(2));
    const all = from(twenty, begin("s1"), begin("s0"));
    expect(all.activeStages).toEqual(names.slice(0, 20));
    expect(all.counts.running).toBe(22);
  });

  test("[R6] counts says how many stages there are of each status", () => {
    const state = play(
      job({ status: "running" }),
      plan(["idle", ...STATUSES]),
      ...STATUSES.map((status) => stage(status, { status })),
    );
    expect(state.counts).toEqual({
      total: 8,
      pending: 2,
      running: 1,
      waiting: 1,
      completed: 1,
      failed: 1,
      cancelled: 1,
      skipped: 1,
    });
  });
});

describe("R7: progress", () => {
  test("[R7] a plan's progress is weighted, and rounded down", () => {
    const state = play(
      plan(["a", ["b", { weight: 2 }]]),
      stage("a", { status: "completed" }),
      stage("b", { status: "running", progress: 50 }),
    );
    expect(state.progress).toBe(66); // (100 + 2 · 50) / 3 = 66.7
    expect(state.indeterminate).toBe(false);
  });

  test("[R7] skipped counts as whole, failed and cancelled as what they have reached", () => {
    const state = play(
      job({ status: "running" }),
      plan(["a", "b", "c", "d"]),
      stage("a", { status: "skipped" }),
      stage("b", { progress: 30 }),
      stage("b", { status: "failed" }),
      stage("c", { progress: 50 }),
      stage("c", { status: "cancelled" }),
    );
    expect(state.progress).toBe(45);
    expect(stageOf(state, "b").progress).toBe(30);
    expect(stageOf(state, "c").progress).toBe(50);
  });

  test("[R7] weights that sum to 0 count as equal", () => {
    const state = play(
      plan([
        ["a", { weight: 0 }],
        ["b", { weight: 0 }],
        ["c", { weight: 0 }],
      ]),
      stage("a", { status: "completed" }),
    );
    expect(state.progress).toBe(33);
  });

  test("[R7] a stage of weight 0 among others counts nothing", () => {
    const state = play(plan([["a", { weight: 0 }], "b"]), stage("a", { status: "completed" }));
    expect(state.progress).toBe(0);
  });

  test("[R7] it does not fall when the plan grows", () => {
    const state = play(
      plan(["a", "b"]),
      stage("a", { status: "completed" }),
      plan(["a", "b", "c", "d"]),
    );
    expect(state.progress).toBe(50);
    const next = from(state, stage("b", { status: "completed" }));
    expect(next.progress).toBe(50);
    expect(from(next, stage("c", { progress: 50 })).progress).toBe(62);
  });

  test("[R7] it does not fall when a stage comes that no plan named", () => {
    const state = play(plan(["a", "b"]), stage("a", { status: "completed" }), stage("z"));
    expect(state.progress).toBe(50);
    expect(from(state, stage("b", { status: "completed" })).progress).toBe(66);
  });

  test("[R7] it is at most 99 until the job is completed", () => {
    const state = play(
      job({ status: "running" }),
      plan(["a"]),
      stage("a", { status: "completed" }),
    );
    expect(state).toMatchObject({ status: "running", progress: 99 });
    expect(from(state, job({ status: "completed" })).progress).toBe(100);
    expect(from(state, job({ status: "failed" })).progress).toBe(99);
  });

  test("[R7] a job that completes is at 100, whatever its stages have reached", () => {
    const state = play(plan(["a", "b"]), job({ status: "completed" }));
    expect(state).toMatchObject({ progress: 100, indeterminate: false });
  });

  test("[R7] what the engine says of the job's progress is ignored under a plan", () => {
    const before = play(plan(["a", "b"]), stage("a", { status: "completed" }));
    expect(reduce(before, job({ progress: 80, timestamp: at(5) }))).toBe(before);
    expect(reduce(before, job({ progress: null, timestamp: at(5) }))).toBe(before);
  });

  test("[R7] without a plan, what the engine says is all there is", () => {
    const none = play(
      stage("a", { status: "completed" }),
      stage("b", { status: "running", progress: 50 }),
    );
    expect(none).toMatchObject({ progress: 0, indeterminate: true });
    const told = from(none, job({ progress: 40 }));
    expect(told).toMatchObject({ progress: 40, indeterminate: false });
    expect(from(told, stage("b", { status: "completed" })).progress).toBe(40);
  });

  test("[R7] without a plan it does not fall either, and is at most 99", () => {
    const state = play(job({ status: "running", progress: 40 }));
    expect(from(state, job({ progress: 39 })).progress).toBe(40);
    expect(from(state, job({ progress: 41 })).progress).toBe(41);
    expect(from(state, job({ progress: 100 })).progress).toBe(99);
    expect(from(state, job({ status: "completed" })).progress).toBe(100);
  });

  test("[R7] without a plan, progress that is not known any more does not fall", () => {
    const state = play(job({ status: "running", progress: 40 }), job({ progress: null }));
    expect(state.progress).toBe(40);
  });

  test("[R7] a plan that comes later takes over, and progress does not fall", () => {
    const state = play(job({ progress: 40 }), plan(["a", "b"]));
    expect(state).toMatchObject({ progress: 40, indeterminate: false });
    expect(from(state, stage("a", { status: "completed" })).progress).toBe(50);
  });

  test("[R7] it begins at 0 again in the next run", () => {
    const state = play(plan(["a", "b"]), stage("a", { status: "completed" }), job({ run: 2 }));
    expect(state.progress).toBe(0);
    const loose = play(
      job({ progress: 60, status: "running" }),
      job({ run: 2, status: "running" }),
    );
    expect(loose).toMatchObject({ progress: 0, indeterminate: true });
  });

  test("[R7] a stage's progress does not fall inside an attempt", () => {
    const before = play(
      job({ status: "running" }),
      stage("a", { status: "running", progress: 50 }),
    );
    expect(reduce(before, stage("a", { progress: 49, timestamp: at(5) }))).toBe(before);
    expect(stageOf(reduce(before, stage("a", { progress: 51 })), "a").progress).toBe(51);
  });

  test("[R7] progress said of a pending stage makes it running", () => {
    const state = play(plan(["a", "b"]), stage("a", { progress: 10, timestamp: at(4) }));
    expect(stageOf(state, "a")).toMatchObject({
      status: "running",
      progress: 10,
      indeterminate: false,
      startedAt: at(4),
    });
    expect(state).toMatchObject({ status: "running", currentStage: "a", progress: 5 });
    expect(stageOf(play(stage("a", { progress: 0 })), "a")).toMatchObject({
      status: "running",
      progress: 0,
      indeterminate: false,
    });
  });

  test("[R7] progress that is not known makes a pending stage run too", () => {
    expect(stageOf(play(stage("a", { progress: null })), "a")).toMatchObject({
      status: "running",
      indeterminate: true,
    });
  });

  test.each(ACTIVE)("[R7] a stage that is %s without a progress is indeterminate", (status) => {
    const state = play(job({ status: "running" }), stage("a", { status }));
    expect(stageOf(state, "a")).toMatchObject({ indeterminate: true, progress: 0 });
    expect(stageOf(from(state, stage("a", { progress: 0 })), "a").indeterminate).toBe(false);
  });

  test.each(["pending", ...TERMINAL] as const)(
    "[R7] a stage that is %s is not indeterminate",
    (status) => {
      const state = play(job({ status: "running" }), stage("a", { status }));
      expect(stageOf(state, "a").indeterminate).toBe(false);
      const begun = play(
        job({ status: "running" }),
        stage("a", { status: "running" }),
        stage("a", { status }),
      );
      if (status !== "pending") expect(stageOf(begun, "a").indeterminate).toBe(false);
    },
  );

  test("[R7] a stage whose progress is not known any more keeps what it has reached", () => {
    const state = play(plan(["a"]), stage("a", { progress: 40 }), stage("a", { progress: null }));
    expect(stageOf(state, "a").progress).toBe(40);
    expect(state.progress).toBe(40);
    expect(stageOf(from(state, stage("a", { progress: 40 })), "a").indeterminate).toBe(false);
  });

  test("[R7] a completed stage is at 100", () => {
    const state = play(
      job({ status: "running" }),
      stage("a", { progress: 40 }),
      stage("a", { status: "completed" }),
    );
    expect(stageOf(state, "a").progress).toBe(100);
  });
});

describe("R8: the derived status", () => {
  test.each(STATUSES)(
    "[R8] a stage that is %s makes a job without a plan run, if it has begun",
    (status) => {
      const state = play(stage("a", { status }));
      const begun = status !== "pending" && status !== "skipped";
      expect(state).toMatchObject({
        status: begun ? "running" : "pending",
        derived: true,
        done: false,
        finishedAt: null,
      });
    },
  );

  test("[R8] a job that its stages made run has a startedAt", () => {
    expect(play(stage("a", { status: "running", timestamp: at(4) })).startedAt).toBe(at(4));
  });

  test("[R8] without a plan, the end of all stages ends nothing", () => {
    const state = play(stage("a", { status: "completed" }), stage("b", { status: "failed" }));
    expect(state).toMatchObject({ status: "running", done: false });
  });

  test("[R8] a plan without stages decides nothing", () => {
    expect(play(plan([]))).toMatchObject({ status: "pending", done: false, planned: true });
    const removed = play(plan(["a"]), plan([]));
    expect(removed).toMatchObject({ status: "pending", done: false });
  });

  const end = (...stages: ("completed" | "failed" | "cancelled" | "skipped" | "allowed")[]) => {
    const names = stages.map((_, index) => `s${index}`);
    const planned = stages.map(
      (status, index) => [names[index] ?? "", { allowFailure: status === "allowed" }] as const,
    );
    return play(
      plan(planned),
      ...stages.map((status, index) =>
        stage(names[index] ?? "", {
          status: status === "allowed" ? "failed" : status,
          timestamp: at(7),
        }),
      ),
    );
  };

  test.each([
    [["completed", "completed"], "completed"],
    [["skipped", "completed"], "completed"],
    [["skipped", "skipped"], "completed"],
    [["completed", "allowed"], "completed"],
    [["allowed"], "completed"],
    [["completed", "failed"], "failed"],
    [["failed", "cancelled"], "failed"],
    [["cancelled", "failed"], "failed"],
    [["allowed", "failed"], "failed"],
    [["completed", "cancelled"], "cancelled"],
    [["cancelled", "allowed"], "cancelled"],
    [["allowed", "cancelled", "skipped"], "cancelled"],
  ] as const)("[R8] a plan whose stages are %j is %s", (stages, status) => {
    expect(end(...stages)).toMatchObject({
      status,
      done: true,
      derived: true,
      finishedAt: at(7),
      progress: status === "completed" ? 100 : expect.any(Number),
      indeterminate: false,
    });
  });

  test("[R8] one stage that has not ended keeps the job from its end", () => {
    for (const status of ["pending", "running", "waiting"] as const) {
      const state = play(
        plan(["a", "b"]),
        stage("a", { status: "failed" }),
        stage("b", { status }),
      );
      expect(state).toMatchObject({ status: "running", done: false });
    }
  });

  test("[R8] a stage that no plan named has to end too", () => {
    const state = play(
      plan(["a"]),
      stage("z", { status: "running" }),
      stage("a", { status: "completed" }),
    );
    expect(state.done).toBe(false);
    expect(from(state, stage("z", { status: "failed" })).status).toBe("failed");
  });

  test("[R8] a plan that comes after its stages have ended decides at once", () => {
    const before = play(stage("a", { status: "completed" }));
    expect(reduce(before, plan(["a"], { timestamp: at(5) }))).toMatchObject({
      status: "completed",
      done: true,
      finishedAt: at(5),
    });
  });

  test("[R8] a plan that removes the last pending stage decides at once", () => {
    const before = play(plan(["a", "b"]), stage("a", { status: "cancelled" }));
    expect(reduce(before, plan(["a"])).status).toBe("cancelled");
  });

  test("[R8] a failed stage with attempts left does not end the job", () => {
    const state = play(plan([["a", { maxAttempts: 3 }]]), stage("a", { status: "failed" }));
    expect(state).toMatchObject({ status: "running", done: false });
    const second = from(state, stage("a", { attempt: 2, status: "failed" }));
    expect(second.done).toBe(false);
    const third = from(second, stage("a", { attempt: 3, status: "failed" }));
    expect(third).toMatchObject({ status: "failed", done: true });
    expect(from(state, stage("a", { attempt: 2, status: "completed" }))).toMatchObject({
      status: "completed",
      run: 1,
    });
  });

  test("[R8] a stage with attempts left that was not failed does not hold the job up", () => {
    for (const status of ["completed", "cancelled", "skipped"] as const) {
      expect(play(plan([["a", { maxAttempts: 3 }]]), stage("a", { status })).done).toBe(true);
    }
  });

  test("[R8] attempts left count for a stage that may fail as well", () => {
    const state = play(
      plan([["a", { maxAttempts: 2, allowFailure: true }]]),
      stage("a", { status: "failed" }),
    );
    expect(state.done).toBe(false);
  });

  test("[R8] after a derived end a higher attempt begins the next run by itself", () => {
    const done = play(
      plan(["a", "b"]),
      stage("a", { status: "completed" }),
      stage("b", { status: "failed" }),
    );
    expect(done).toMatchObject({ status: "failed", run: 1 });
    const again = reduce(done, stage("b", { attempt: 2, status: "running", timestamp: at(8) }));
    expect(again).toMatchObject({
      run: 2,
      status: "running",
      done: false,
      derived: true,
      progress: 0,
      currentStage: "b",
      finishedAt: null,
    });
    expect(statuses(again)).toEqual({ a: "pending", b: "running" });
    expect(stageOf(again, "b").attempt).toBe(2);
  });

  test.each([
    ["the same attempt", stage("a", { attempt: 1, status: "running" })],
    ["no attempt", stage("a", { status: "running" })],
    ["an unknown stage", stage("z", { status: "running" })],
    ["an event of the job", job({ status: "running" })],
    ["a plan", plan(["a", "b"])],
    ["a higher attempt of a lower run", stage("a", { run: 1, attempt: 2, status: "running" })],
  ])("[R8] after a derived end %s begins nothing", (_, event) => {
    const first = play(plan(["a"]), stage("a", { status: "failed" }));
    // The last row speaks of run 1 while the job is done with run 2.
    const done = event.run ? from(first, stage("a", { run: 2, status: "failed" })) : first;
    expect(done.done).toBe(true);
    expect(reduce(done, event)).toBe(done);
  });

  test.each(STATUSES.filter((status) => status !== "pending"))(
    "[R8] a job that is said to be %s is not derived",
    (status) => {
      expect(play(job({ status })).derived).toBe(false);
    },
  );

  test("[R8] a job that is said to be pending is still derived", () => {
    const state = play(
      plan(["a"]),
      job({ status: "pending" }),
      stage("a", { status: "completed" }),
    );
    expect(state).toMatchObject({ derived: true, status: "completed" });
  });

  test("[R8] once the engine has stated a status, only the engine ends the run", () => {
    for (const status of ACTIVE) {
      const state = play(plan(["a"]), job({ status }), stage("a", { status: "failed" }));
      expect(state).toMatchObject({ status, done: false, derived: false });
      expect(from(state, job({ status: "completed" }))).toMatchObject({
        status: "completed",
        done: true,
        derived: false,
      });
    }
  });

  test("[R8] stating what was derived already is a change: from now on the engine decides", () => {
    const before = play(plan(["a"]), stage("a", { status: "running" }));
    const next = reduce(before, job({ status: "running" }));
    expect(next).toMatchObject({ status: "running", derived: false });
    expect(from(next, stage("a", { status: "completed" })).done).toBe(false);
  });

  test("[R8] a higher attempt does not follow a stated end, a higher run does", () => {
    const done = play(
      plan(["a"]),
      stage("a", { status: "failed" }),
      job({ run: 2 }),
      job({ status: "failed" }),
    );
    expect(done).toMatchObject({ run: 2, derived: false });
    expect(reduce(done, stage("a", { attempt: 2, status: "running" }))).toBe(done);
    expect(reduce(done, stage("a", { run: 3, status: "running" }))).toMatchObject({
      run: 3,
      status: "running",
      derived: true,
    });
  });

  test("[R8] the next run is derived again", () => {
    const state = play(
      plan(["a"]),
      job({ status: "running" }),
      job({ status: "failed" }),
      stage("a", { run: 2, status: "completed" }),
    );
    expect(state).toMatchObject({ run: 2, derived: true, status: "completed", done: true });
  });

  test("[R8] a stated active status stands, whatever the stages do", () => {
    const state = play(job({ status: "waiting" }), stage("a", { status: "running" }));
    expect(state.status).toBe("waiting");
  });
});

describe("R9: the sweep", () => {
  const BEFORE = play(
    plan(["a", "b", "c", "d"]),
    stage("a", { status: "completed", reason: "own", timestamp: at(1) }),
    stage("b", { status: "running", progress: 40, timestamp: at(2) }),
    stage("c", { status: "waiting", timestamp: at(3) }),
  );

  test.each([
    ["completed", "completed", "implied"],
    ["failed", "cancelled", "job_failed"],
    ["cancelled", "cancelled", "job_cancelled"],
    ["skipped", "cancelled", "job_skipped"],
  ] as const)("[R9] when a job is %s its active stages are %s (%s)", (end, status, reason) => {
    const state = from(BEFORE, job({ status: end, timestamp: at(9) }));
    for (const id of ["b", "c"]) {
      expect(stageOf(state, id)).toMatchObject({
        status,
        reason,
        indeterminate: false,
        finishedAt: at(9),
        updatedAt: at(9),
      });
    }
    expect(stageOf(state, "b").startedAt).toBe(at(2));
    expect(stageOf(state, "d")).toMatchObject({
      status: "skipped",
      reason: "not_run",
      startedAt: null,
    });
    expect(stageOf(state, "a")).toMatchObject({
      status: "completed",
      reason: "own",
      finishedAt: at(1),
    });
    expect(state.counts).toMatchObject({ pending: 0, running: 0, waiting: 0 });
  });

  test.each(["failed", "cancelled", "skipped"] as const)(
    "[R9] the progress of a job that is %s stays as it stood",
    (status) => {
      expect(BEFORE.progress).toBe(35);
      expect(from(BEFORE, job({ status })).progress).toBe(35);
    },
  );

  test("[R9] a cancelled stage keeps what it had reached, an implied one is whole", () => {
    expect(stageOf(from(BEFORE, job({ status: "failed" })), "b").progress).toBe(40);
    expect(stageOf(from(BEFORE, job({ status: "completed" })), "b").progress).toBe(100);
  });

  test("[R9] a job without stages ends too", () => {
    expect(play(job({ status: "cancelled" }))).toMatchObject({ done: true, stages: [] });
  });

  test("[R9] a failed stage with attempts left is not touched by the end", () => {
    const state = play(
      plan([["a", { maxAttempts: 3 }]]),
      stage("a", { status: "failed", reason: "own" }),
      job({ status: "failed" }),
    );
    expect(stageOf(state, "a")).toMatchObject({ status: "failed", reason: "own" });
  });
});

describe("R10: a retry", () => {
  test("[R10] a higher attempt resets status, progress and error", () => {
    const state = play(
      plan(["a", "b"]),
      stage("a", { status: "running", progress: 70, timestamp: at(1) }),
      stage("a", {
        status: "failed",
        reason: "broken",
        error: { code: "C", message: "e" },
        timestamp: at(2),
      }),
      stage("a", { attempt: 2, status: "running", timestamp: at(3) }),
    );
    expect(stageOf(state, "a")).toMatchObject({
      status: "running",
      reason: null,
      progress: 0,
      indeterminate: true,
      error: null,
      attempt: 2,
      startedAt: at(3),
      finishedAt: null,
    });
  });

  test.each(TERMINAL)("[R10] an attempt that was %s is archived as it ended", (status) => {
    const state = play(
      job({ status: "running" }),
      stage("a", { status: "running", timestamp: at(1) }),
      stage("a", { status, reason: "why", timestamp: at(2) }),
      stage("a", { attempt: 2, status: "running", timestamp: at(3) }),
    );
    expect(stageOf(state, "a").attempts).toEqual([
      { attempt: 1, status, reason: "why", startedAt: at(1), finishedAt: at(2) },
    ]);
  });

  test.each(ACTIVE)("[R10] an attempt that was still %s is archived as superseded", (status) => {
    const state = play(
      job({ status: "running" }),
      stage("a", { status, reason: "why", timestamp: at(1) }),
      stage("a", { attempt: 2, status: "running", timestamp: at(3) }),
    );
    expect(stageOf(state, "a").attempts).toEqual([
      { attempt: 1, status: "failed", reason: "superseded", startedAt: at(1), finishedAt: at(3) },
    ]);
  });

  test("[R10] a higher attempt without a status leaves the stage pending", () => {
    const state = play(
      job({ status: "running" }),
      stage("a", { status: "failed" }),
      stage("a", { attempt: 2 }),
    );
    expect(stageOf(state, "a")).toMatchObject({
      status: "pending",
      attempt: 2,
      startedAt: null,
      finishedAt: null,
    });
  });

  test("[R10] a higher attempt may end at once, and may bring progress", () => {
    const failed = play(job({ status: "running" }), stage("a", { status: "failed" }));
    const ended = stageOf(from(failed, stage("a", { attempt: 2, status: "completed" })), "a");
    expect(ended).toMatchObject({ status: "completed", attempt: 2, startedAt: null });
    const going = stageOf(from(failed, stage("a", { attempt: 2, progress: 5 })), "a");
    expect(going).toMatchObject({ status: "running", attempt: 2, progress: 5 });
  });

  test("[R10] the last 10 attempts are kept, oldest first", () => {
    const attempts = Array.from({ length: 10 }, (_, index) => index + 1);
    const ten = play(
      job({ status: "running" }),
      ...attempts.map((attempt) => stage("a", { attempt, status: "failed" })),
      stage("a", { attempt: 11, status: "running" }),
    );
    expect(stageOf(ten, "a").attempts.map(({ attempt }) => attempt)).toEqual(attempts);
    const eleven = from(ten, stage("a", { attempt: 12, status: "running" }));
    expect(stageOf(eleven, "a").attempts.map(({ attempt }) => attempt)).toEqual([
      ...attempts.slice(1),
      11,
    ]);
  });

  test("[R10] the job's progress does not fall", () => {
    const state = play(
      plan(["a", "b"]),
      stage("a", { progress: 80 }),
      stage("a", { attempt: 2, progress: 10 }),
    );
    expect(stageOf(state, "a").progress).toBe(10);
    expect(state.progress).toBe(40);
    expect(from(state, stage("a", { progress: 90 })).progress).toBe(45);
  });
});

describe("fields", () => {
  const RUNNING = play(
    job({ status: "running", reason: "because" }),
    stage("a", { status: "running", reason: "because" }),
  );

  test("[R2] a change of status sets the reason, to null if none is given", () => {
    const none = from(RUNNING, job({ status: "waiting" }), stage("a", { status: "waiting" }));
    expect(none.reason).toBeNull();
    expect(stageOf(none, "a").reason).toBeNull();
    const given = from(
      RUNNING,
      job({ status: "waiting", reason: "timer" }),
      stage("a", { status: "waiting", reason: "approval" }),
    );
    expect(given.reason).toBe("timer");
    expect(stageOf(given, "a").reason).toBe("approval");
  });

  test("[R2] the same status without a reason leaves the reason, one with a reason replaces it", () => {
    expect(reduce(RUNNING, job({ status: "running" }))).toBe(RUNNING);
    expect(reduce(RUNNING, stage("a", { status: "running" }))).toBe(RUNNING);
    expect(reduce(RUNNING, job({ status: "running", reason: "retrying" })).reason).toBe("retrying");
    const next = reduce(RUNNING, stage("a", { status: "running", reason: "retrying" }));
    expect(stageOf(next, "a").reason).toBe("retrying");
  });

  test("[R8] a derived end has no reason of an earlier status", () => {
    const state = play(
      plan(["a"]),
      stage("a", { status: "running", reason: "x" }),
      stage("a", { status: "completed" }),
    );
    expect(state.reason).toBeNull();
    expect(stageOf(state, "a").reason).toBeNull();
  });

  test("[R2] message, labels and metadata stay until they are replaced whole, null clears them", () => {
    const state = play(
      job({ message: "m", labels: { a: "1", b: "2" }, metadata: { a: 1, b: 2 } }),
      stage("a", { message: "m", metadata: { a: 1, b: 2 } }),
    );
    const kept = from(state, job({ status: "running" }), stage("a", { status: "running" }));
    expect(kept).toMatchObject({
      message: "m",
      labels: { a: "1", b: "2" },
      metadata: { a: 1, b: 2 },
    });
    expect(stageOf(kept, "a")).toMatchObject({ message: "m", metadata: { a: 1, b: 2 } });
    const replaced = from(
      kept,
      job({ message: "n", labels: { c: "3" }, metadata: [1] }),
      stage("a", { message: "n", metadata: "text" }),
    );
    expect(replaced.message).toBe("n");
    expect(replaced.labels).toEqual({ c: "3" });
    expect(replaced.metadata).toEqual([1]);
    expect(stageOf(replaced, "a")).toMatchObject({ message: "n", metadata: "text" });
    const cleared = from(
      replaced,
      job({ message: null, labels: null, metadata: null }),
      stage("a", { message: null, metadata: null }),
    );
    expect(cleared.message).toBeNull();
    expect(cleared.labels).toEqual({});
    expect(cleared.metadata).toBeNull();
    expect(stageOf(cleared, "a")).toMatchObject({ message: null, metadata: null });
  });

  test("[R12] an error stays until it is replaced or cleared", () => {
    const error = { code: "C", message: "e" };
    const state = play(job({ status: "running", error }), stage("a", { status: "running", error }));
    expect(state.error).toEqual(error);
    expect(stageOf(from(state, stage("a", { progress: 1 })), "a").error).toEqual(error);
    expect(from(state, job({ error: null })).error).toBeNull();
    expect(stageOf(from(state, stage("a", { error: null })), "a").error).toBeNull();
  });

  test("[R5] a plan sets name, labels and metadata of the job, and null clears them", () => {
    const state = play(plan(["a"], { name: "n", labels: { k: "v" }, metadata: { m: 1 } }));
    expect(state).toMatchObject({ name: "n", labels: { k: "v" }, metadata: { m: 1 } });
    expect(from(state, plan(["a", "b"]))).toMatchObject({ name: "n", labels: { k: "v" } });
    const cleared = from(state, plan(["a"], { name: null, labels: null, metadata: null }));
    expect(cleared).toMatchObject({ name: null, labels: {}, metadata: null });
  });

  test("[R17] updatedAt is the greatest timestamp so far", () => {
    const state = play(
      job({ status: "running", timestamp: at(5) }),
      stage("a", { status: "running", timestamp: at(3) }),
    );
    expect(state.updatedAt).toBe(at(5));
    expect(stageOf(state, "a")).toMatchObject({ startedAt: at(3) });
    expect(from(state, job({ message: "m", timestamp: at(7) })).updatedAt).toBe(at(7));
  });

  test("[R17] a stage's updatedAt does not go back", () => {
    const state = play(
      job({ status: "running", timestamp: at(1) }),
      stage("a", { status: "running", timestamp: at(5) }),
      stage("a", { message: "late", timestamp: at(3) }),
    );
    expect(stageOf(state, "a").updatedAt).toBe(at(5));
  });

  test("[R2] an event changes only the stage that it speaks of", () => {
    const before = play(plan(["a", "b", "c"]), stage("b", { status: "running" }));
    const next = reduce(before, stage("b", { progress: 10 }));
    expect(stageOf(next, "a")).toBe(stageOf(before, "a"));
    expect(stageOf(next, "c")).toBe(stageOf(before, "c"));
  });
});
