import { type JobSnapshot, type PublishedEvent, printCursor } from "@org/workflow-monitor";
import { createHistory, type History } from "@org/workflow-monitor/testing";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { range } from "../support/frames.js";
import { startServer } from "../support/server.js";
import { until } from "../support/wait.js";
import { inProcess, overWebSocket, startWatcher } from "../support/watchers.js";
import { faults } from "./history-faults.js";
import {
  correctRun,
  cursorAt,
  JOB,
  type ModelFrame,
  type Move,
  print,
  type Step,
  tell,
} from "./history-model.js";

const RUNS = { seed: 20_260_101, numRuns: 200 };
const PATIENCE = { timeout: 30_000 };

const anyMoves: fc.Arbitrary<Move[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom<Move>({ move: "publish" }, { move: "repeat" }) },
    {
      weight: 8,
      arbitrary: fc.record({
        move: fc.constantFrom("take", "take", "cut", "behind", "skip", "poll"),
        viewer: fc.nat({ max: 2 }),
      }),
    },
  ),
  { maxLength: 40 },
);

/** Moves with a place for every fault: missed events, a skip, a poll, two updates in a row. */
const everything: Move[] = range(0, 2).flatMap((viewer): Move[] => [
  { move: "skip", viewer },
  { move: "publish" },
  { move: "publish" },
  { move: "take", viewer },
  { move: "take", viewer },
  { move: "publish" },
  { move: "repeat" },
  { move: "cut", viewer },
  { move: "publish" },
  { move: "behind", viewer },
  { move: "publish" },
  { move: "poll", viewer },
]);

function told(steps: readonly Step[]): History {
  const history = createHistory();
  tell(history, steps);
  return history;
}

describe("a history without fault", () => {
  test("passes, whatever viewers do", PATIENCE, () => {
    fc.assert(
      fc.property(anyMoves, (moves) => {
        expect(told(correctRun(moves)).violations()).toEqual([]);
      }),
      RUNS,
    );
  });

  test("is counted, so that a test can say that it saw enough", () => {
    const steps = correctRun(everything);
    const history = told(steps);
    history.check();
    const of = (what: Step["do"]) => steps.filter((step) => step.do === what);
    const frames = steps.flatMap((step) => (step.do === "frame" ? [step.frame] : []));
    const { updates, snapshots, ends } = history.summary;
    expect(updates).toBe(frames.filter(({ type }) => type === "update").length);
    expect(snapshots).toBe(frames.filter(({ type }) => type === "snapshot").length);
    expect(ends).toBe(4);
    expect(history.summary).toMatchObject({
      jobs: 1,
      viewers: 4,
      published: of("published").length,
      observations: { ws: frames.length, sse: 0, poll: of("polled").length },
      resumed: frames.filter(({ resumed }) => resumed).length,
      events: updates + frames.flatMap(({ events = [] }) => events).length,
      skipped: 3, // by each of the polls
    });
  });
});

describe("a history with a fault is found", () => {
  test.each(Object.entries(faults))("%s", (_name, fault) => {
    const steps = correctRun(everything);
    for (const pick of range(0, 30)) {
      const faulty = fault.in(steps, pick);
      if (!faulty) throw new Error("there is no place for this fault");
      const violations = told(faulty).violations();
      expect(violations.filter((violation) => fault.found.test(violation))).not.toEqual([]);
      expect(violations.filter((violation) => !violation.includes(`job ${JOB}`))).toEqual([]);
    }
  });

  test("wherever it is, and whatever else viewers do", PATIENCE, () => {
    fc.assert(
      fc.property(
        anyMoves,
        fc.constantFrom(...Object.values(faults)),
        fc.nat(),
        (moves, fault, pick) => {
          const faulty = fault.in(correctRun([...moves, ...everything]), pick) as Step[];
          expect(told(faulty).violations().join("\n")).toMatch(fault.found);
        },
      ),
      RUNS,
    );
  });
});

/** A history of one viewer, and the means to tell it what happens. */
function watched(viewer = "ann") {
  const history = createHistory();
  const told = (frame: Partial<ModelFrame> & { revision: number; epoch?: string }) => {
    const { revision, epoch = cursorAt(0).epoch, ...fields } = frame;
    const cursor = { epoch, revision };
    const job = `{"status":"running","done":false,"run":1,"epoch":"${epoch}","revision":${revision}}`;
    const whole = { type: "update", jobId: JOB, cursor, job, ...fields } as const;
    history.observe({ viewer, transport: "ws", text: print(whole) });
  };
  return {
    history,
    told,
    update: (revision: number, more: Partial<ModelFrame> = {}) =>
      told({ revision, event: `{"type":"job","message":"${revision}"}`, ...more }),
    snapshot: (revision: number, more: Partial<ModelFrame> & { epoch?: string } = {}) =>
      told({ type: "snapshot", revision, resumed: false, done: false, events: [], ...more }),
    text: (text: string) => history.observe({ viewer, transport: "ws", jobId: JOB, text }),
  };
}

/** The job's bytes at a revision of a run. */
const jobAt = (revision: number, run: number, status: string): string =>
  JSON.stringify({ status, done: status === "completed", run, ...cursorAt(revision) });

describe("a history", () => {
  test("allows one revision more for each publish of unknown outcome", () => {
    const { history, snapshot, update } = watched();
    history.published(JOB, cursorAt(1));
    snapshot(1);
    update(2);
    expect(history.violations()).toEqual([
      `ann over ws, job ${JOB}, ${printCursor(cursorAt(2))}: seen, but only ${printCursor(cursorAt(1))} was published`,
    ]);
    history.indeterminate(JOB);
    expect(history.violations()).toEqual([]);
    update(3);
    expect(history.violations()).toHaveLength(1);
  });

  test("takes a publish of unknown outcome that one viewer saw as published for all", () => {
    const { history, snapshot, update } = watched();
    history.published(JOB, cursorAt(1));
    history.indeterminate(JOB);
    snapshot(1);
    update(2);
    history.polled({
      viewer: "bob",
      transport: "poll",
      jobId: JOB,
      text: jobAt(1, 1, "running"),
    });
    expect(history.violations().join()).toMatch(/bob over poll, .*: never reached the head .*\.2/);
  });

  test("asks nothing more of those who gave up", () => {
    const { history, snapshot } = watched();
    snapshot(1);
    history.published(JOB, cursorAt(2));
    expect(history.violations().join()).toMatch(/ann over ws, .*: never reached the head/);
    history.gaveUp("ann", JOB);
    history.check();
    history.joined({ viewer: "bob", jobId: JOB });
    expect(history.violations().join()).toMatch(/bob, .*no cursor: never reached the head/);
    history.gaveUp("bob");
    history.check();
  });

  test("lets another epoch begin anywhere, and nobody go back into one", () => {
    const { history, snapshot } = watched();
    history.published(JOB, cursorAt(5));
    snapshot(5);
    snapshot(2, { epoch: "zzzzzzzzzzzz" });
    history.head(JOB, { epoch: "zzzzzzzzzzzz", revision: 2 });
    history.check();
    snapshot(4);
    expect(history.violations().join()).toMatch(/back from .*\.5/);
  });

  test("knows the end of a run from the end of a log", () => {
    const { history, snapshot, told } = watched();
    const job = jobAt(1, 1, "completed");
    snapshot(1, { done: true, job });
    told({ revision: 1, type: "end", status: "completed" });
    history.published(JOB, cursorAt(2));
    history.polled({ viewer: "bob", transport: "poll", jobId: JOB, text: jobAt(2, 2, "running") });
    history.check();
    history.joined({ viewer: "ann", jobId: JOB });
    expect(history.violations().join()).toMatch(/ann over ws, .*: never reached the head/);
    snapshot(2, {
      resumed: true,
      events: ['{"type":"job"}'],
      job: jobAt(2, 2, "running"),
    });
    history.check();
  });

  test("finds an end before the last revision of the run", () => {
    const { history, snapshot, told } = watched();
    snapshot(1, { done: true, job: jobAt(1, 1, "completed") });
    told({ revision: 1, type: "end", status: "completed" });
    history.published(JOB, cursorAt(2));
    history.polled({
      viewer: "bob",
      transport: "poll",
      jobId: JOB,
      text: jobAt(2, 1, "completed"),
    });
    expect(history.violations().join()).toMatch(/ann over ws, .*: never reached the head/);
  });

  test("allows in a lost epoch what its publisher was acknowledged in the next one", () => {
    const next = "zzzzzzzzzzzz";
    const said = (message: string) => ({ type: "job", jobId: JOB, message }) as const;
    const play = (seen: string) => {
      const { history, snapshot, update } = watched();
      history.published(JOB, cursorAt(1), said("1"));
      snapshot(1);
      update(2, { event: `{"type":"job","message":"${seen}"}` });
      snapshot(0, { epoch: next });
      snapshot(1, { epoch: next });
      history.published(JOB, { epoch: next, revision: 1 }, said("again"));
      history.head(JOB, { epoch: next, revision: 1 });
      return history;
    };
    play("again").check();
    expect(play("other").violations().join()).toMatch(/seen, but only .*\.1 was published/);
  });

  test("knows the events of unknown outcome from those that nobody published", () => {
    const { history, snapshot, update } = watched();
    const said = (message: string) => ({ type: "job", jobId: JOB, message }) as const;
    history.published(JOB, cursorAt(1), said("1"));
    snapshot(1);
    update(2);
    update(3);
    // They changed nothing, and were told where the job stood.
    history.published(JOB, cursorAt(2), said("nothing new"));
    history.published(JOB, cursorAt(3), said("nothing new"));
    history.indeterminate(JOB, said("2"));
    expect(history.violations()).toEqual([
      `ann over ws, job ${JOB}, ${printCursor(cursorAt(3))}: the event is none of those that were acknowledged here`,
    ]);
    history.indeterminate(JOB);
    history.check();
  });

  test("takes a poll of a job that is over for its end", () => {
    const polled = (status: string) => {
      const history = createHistory();
      history.published(JOB, cursorAt(1));
      const text = jobAt(1, 1, status);
      history.polled({ viewer: "bob", transport: "poll", jobId: JOB, text });
      history.head(JOB, { epoch: "zzzzzzzzzzzz", revision: 0 });
      return history;
    };
    const behind = /bob over poll, .*: never reached the head/;
    expect(polled("running").violations().join()).toMatch(behind);
    const history = polled("completed");
    history.check();
    history.joined({ viewer: "bob", jobId: JOB });
    expect(history.violations().join()).toMatch(behind);
    history.finished("bob", JOB); // 304, without a body
    history.check();
  });

  test("finds a viewer that was told to stop before the end", () => {
    const { history, snapshot } = watched();
    history.published(JOB, cursorAt(1));
    history.finished("ann", JOB);
    history.joined({ viewer: "ann", jobId: JOB });
    snapshot(1);
    history.finished("ann", JOB);
    const found = history.violations();
    expect(found[0]).toMatch(/no cursor: told that it is over, but the job is undefined/);
    expect(found[1]).toMatch(/told that it is over, but the job is running/);
  });

  test("takes jobs of another shape, with their cursor from the tag", () => {
    const { history, snapshot } = watched();
    const cursor = cursorAt(3);
    history.published(JOB, cursor);
    snapshot(3, { job: '{"status":"DONE","done":"yes"}' });
    for (const etag of [`"${printCursor(cursor)}"`, `W/"${printCursor(cursor)}-v2"`]) {
      const text = '{"status":"DONE","done":"yes"}';
      history.polled({ viewer: "bob", transport: "poll", jobId: JOB, etag, text });
    }
    history.check();
  });

  test("leaves heartbeats and unknown types alone, and asks for a snapshot after an error", () => {
    const { history, snapshot, update, text } = watched();
    history.published(JOB, cursorAt(2));
    text('{"type":"heartbeat","timestamp":"2026-01-01T00:00:00.000Z"}');
    text('{"type":"news"}');
    text(`{"type":"error","jobId":"${JOB}","code":"unknown_job"}`);
    snapshot(1);
    history.observe({ viewer: "ann", transport: "ws", text: '{"type":"heartbeat"}' });
    update(2);
    history.check();
    text('{"type":"error","code":"draining"}');
    update(3);
    expect(history.violations()[0]).toMatch(/update before a snapshot/);
  });

  test("finds patches of other bytes, and what cannot be read", () => {
    const { history, snapshot, told, text } = watched();
    const event = '{"type":"job"}';
    for (const patch of ['{"revision":2}', '{"revision": 2}', "{]"]) {
      history.joined({ viewer: "ann", jobId: JOB, after: null });
      snapshot(1);
      told({ revision: 2, event, patch });
    }
    told({ revision: 3, event: "job", job: "job" });
    text('{"no":"type"}');
    text("[]");
    const found = history.violations().join("\n");
    expect(found).toMatch(/\.2: the patch has other bytes than ann over ws got/);
    expect(found).toMatch(/\.2: the patch cannot be applied/);
    expect(found).toMatch(/\.3: the event is not JSON/);
    expect(found).toMatch(/\.3: the job is not JSON/);
    expect(found).toMatch(/job job: a frame without a type/);
    expect(found).toMatch(/job job: unexpected \[ at 0 of the JSON text/);
  });

  test("finds a job that stands at another cursor than its frame", () => {
    const { history, snapshot } = watched();
    snapshot(2, { job: jobAt(3, 1, "running") });
    expect(history.violations()[0]).toMatch(/the job says that it is .*\.3/);
  });

  test("lets go of a job that is over, but not of what was wrong with it", () => {
    const { history, snapshot } = watched();
    snapshot(1);
    history.published(JOB, cursorAt(2));
    history.forget(JOB);
    history.forget("nobody's job");
    expect(history.violations()).toHaveLength(1);
    expect(history.summary).toMatchObject({ jobs: 1, viewers: 1, published: 1, snapshots: 1 });
  });

  test("lists the first violations in its error, and says how many more there are", () => {
    const { history, update } = watched();
    history.published(JOB, cursorAt(100));
    for (const revision of range(1, 25)) update(4 * revision);
    expect(() => history.check()).toThrow(
      /^the history has violations:(\n- .*){20}\n… and 5 more$/,
    );
  });
});

describe("a real monitor", () => {
  test(
    "passes: in the process, over sockets in both modes and by polls, cut again and again",
    PATIENCE,
    async () => {
      const { monitor, engine, port, poll, settled } = await startServer();
      const history = createHistory();
      monitor.on("update", ({ jobId, cursor, event }) => history.published(jobId, cursor, event));
      const publish = async (event: PublishedEvent) =>
        history.published(event.jobId, await monitor.publish(event), event);
      const jobs = ["one", "two"];
      const stages = ["a", "b", "c"];
      for (const jobId of jobs) {
        await publish({ type: "plan", jobId, stages: stages.map((stage) => ({ stage })) });
      }
      const ways = [inProcess(monitor), overWebSocket(port), overWebSocket(port, "delta")];
      const watchers = jobs.flatMap((jobId) =>
        range(1, 6).map((n) => {
          const viewer = `viewer ${n}`;
          return startWatcher({ history, viewer, jobId, over: (turn) => ways[(n + turn) % 3]! });
        }),
      );

      await until("everybody watches", () => watchers.every(({ cursor }) => cursor !== undefined));

      for (const round of range(1, 30)) {
        for (const jobId of jobs) {
          for (const stage of stages) {
            const message = `round ${round} "\\ é`;
            engine.emit("stage", { jobId, stage, progress: 3 * round, message });
          }
          await publish({ type: "job", jobId, message: `round ${round}` });
          const { text, headers } = await poll(jobId);
          history.polled({ viewer: "poller", transport: "poll", jobId, etag: headers.etag, text });
        }
        watchers[(5 * round) % watchers.length]?.cut();
      }
      for (const jobId of jobs) await publish({ type: "job", jobId, status: "completed" });
      for (const { ended } of watchers) await ended;
      let events = 0;
      for (const jobId of jobs) {
        await settled(jobId);
        const job = (await monitor.get(jobId)) as JobSnapshot;
        history.polled({
          viewer: "poller",
          transport: "poll",
          jobId,
          text: (await poll(jobId)).text,
        });
        history.head(jobId, job, job);
        events += 6 * (job.revision - 1); // all began at the first revision
      }

      history.check();
      expect(history.summary).toMatchObject({ jobs: 2, viewers: 7, ends: 12, events });
      expect(history.summary.resumed).toBeGreaterThanOrEqual(watchers.length);
    },
  );
});
