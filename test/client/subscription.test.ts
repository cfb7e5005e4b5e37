import type { Frame, JobSnapshot, WorkflowEvent } from "@org/workflow-monitor";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MonitorClientError } from "../../packages/client/src/errors.js";
import {
  FIRST_BACKOFF_MS,
  LONGEST_BACKOFF_MS,
  LONGEST_MS,
} from "../../packages/client/src/line.js";
import { createSubscription } from "../../packages/client/src/subscription.js";
import { emptyJob } from "../../packages/core/src/snapshot.js";
import { at } from "../core/given.js";
import { testHost } from "../support/client.js";
import { ManualClock } from "../support/clock.js";
import { range } from "../support/frames.js";

const JOB = "job";
const EPOCHS = ["aaaaaaaaaaaa", "bbbbbbbbbbbb"] as const;
const [A, B] = EPOCHS;

const jobAt = (revision: number, epoch: string = A): JobSnapshot => ({
  ...emptyJob(JOB, at(0)),
  message: `${epoch} ${revision}`,
  epoch,
  revision,
});

const eventAt = (revision: number, epoch: string = A): WorkflowEvent => ({
  type: "job",
  timestamp: at(revision),
  message: `${epoch} ${revision}`,
});

const place = (revision: number, epoch: string) => ({
  jobId: JOB,
  cursor: `${epoch}.${revision}`,
});

/** The state at a revision; resumed: with the events after `since`. */
const snapshot = (revision: number, since?: number, epoch: string = A): Frame => ({
  type: "snapshot",
  ...place(revision, epoch),
  resumed: since !== undefined,
  done: false,
  heartbeatMs: 25_000,
  events: since === undefined ? [] : range(since + 1, revision).map((r) => eventAt(r, epoch)),
  job: jobAt(revision, epoch),
});

const update = (revision: number, epoch: string = A): Frame => ({
  type: "update",
  ...place(revision, epoch),
  event: eventAt(revision, epoch),
  patch: { message: `${epoch} ${revision}`, revision },
});

const end = (revision: number, epoch: string = A): Frame => ({
  type: "end",
  ...place(revision, epoch),
  status: "completed",
});

/** A subscription with one viewer. `onAsk` is what the line would do with its cursor. */
function subscribe({ chance = 0.5, onAsk = (_cursor: string | undefined) => {} } = {}) {
  const clock = new ManualClock();
  const { now, monotonic: uptime, setTimeout } = clock;
  const host = testHost({ now, uptime, setTimeout, random: () => chance });
  const asked: (string | undefined)[] = [];
  const shown: { epoch: string; revision: number; events: number[]; resumed: boolean }[] = [];
  const ended: JobSnapshot[] = [];
  const failures: MonitorClientError[] = [];
  let drops = 0;
  const subscription = createSubscription(
    {
      host,
      ask({ cursor }) {
        asked.push(cursor);
        onAsk(cursor);
      },
      drop() {
        drops += 1;
      },
    },
    JOB,
    undefined,
  );
  subscription.viewers.add({
    changed(job, events, resumed) {
      const { epoch, revision } = job;
      expect(job).toEqual(jobAt(revision, epoch));
      const revisions = events.map(([cursor, event]) => {
        const [of, place] = cursor.split(".");
        expect(of).toBe(epoch);
        expect(event).toEqual(eventAt(Number(place), epoch));
        return Number(place);
      });
      shown.push({ epoch, revision, resumed, events: revisions });
    },
    ended(outcome) {
      if (outcome instanceof MonitorClientError) failures.push(outcome);
      else ended.push(outcome);
    },
    connected() {},
  });
  const take = (...frames: Frame[]) => {
    for (const frame of frames) subscription.take(frame);
  };
  return {
    subscription,
    clock,
    take,
    asked,
    shown,
    ended,
    failures,
    get revisions() {
      return shown.flatMap(({ events }) => events);
    },
    get drops() {
      return drops;
    },
  };
}

describe("frames", () => {
  test("of a snapshot and its updates are shown one by one", () => {
    const seen = subscribe();
    seen.take(snapshot(3), update(4), update(5));
    expect(seen.shown).toEqual([
      { epoch: A, revision: 3, resumed: false, events: [] },
      { epoch: A, revision: 4, resumed: true, events: [4] },
      { epoch: A, revision: 5, resumed: true, events: [5] },
    ]);
    expect(seen.subscription.cursor).toBe(`${A}.5`);
  });

  test("that are not newer are dropped", () => {
    const seen = subscribe();
    seen.take(snapshot(5), update(6));
    seen.take(update(6), update(5), update(1), snapshot(6, 5), snapshot(4), snapshot(2, 0), end(5));
    expect(seen).toMatchObject({ revisions: [6], asked: [], ended: [] });
    expect(seen.shown).toHaveLength(2);
  });

  test("of a snapshot that reaches back further tell only what is new", () => {
    const seen = subscribe();
    seen.take(snapshot(5), update(6), snapshot(8, 2), update(9));
    expect(seen.revisions).toEqual([6, 7, 8, 9]);
  });

  test("of another log begin anew, and late ones of the old log are dropped", () => {
    const seen = subscribe();
    seen.take(snapshot(5), snapshot(2, undefined, B), update(3, B));
    seen.take(update(6), snapshot(9, 5), snapshot(9), end(5), update(4, B));
    expect(seen.shown).toEqual([
      { epoch: A, revision: 5, resumed: false, events: [] },
      { epoch: B, revision: 2, resumed: false, events: [] },
      { epoch: B, revision: 3, resumed: true, events: [3] },
      { epoch: B, revision: 4, resumed: true, events: [4] },
    ]);
    expect(seen.asked).toEqual([]);
  });

  test("after a gap are not shown, and what is missing is asked for once", () => {
    const seen = subscribe();
    seen.take(snapshot(5), update(8), update(9), update(10));
    expect(seen).toMatchObject({ asked: [`${A}.5`], revisions: [] });
    seen.take(snapshot(10, 5), update(11));
    expect(seen).toMatchObject({ asked: [`${A}.5`], revisions: range(6, 11) });
  });

  test("before any snapshot are waited out: it is under way", () => {
    const seen = subscribe();
    seen.take(update(4), end(4));
    expect(seen).toMatchObject({ shown: [], asked: [], ended: [] });
  });

  test("of types without a cursor, and with one that cannot be read, are ignored", () => {
    const seen = subscribe();
    seen.take(snapshot(1), { type: "heartbeat", timestamp: at(1) });
    seen.take({ ...update(2), cursor: "2" } as Frame);
    expect(seen).toMatchObject({ revisions: [], asked: [] });
  });
});

describe("an end", () => {
  test("at the cursor is the end, with the last state", () => {
    const seen = subscribe();
    seen.take(snapshot(1), update(2), end(2), update(3), end(2));
    expect(seen.ended).toEqual([jobAt(2)]);
    expect(seen).toMatchObject({ drops: 1, revisions: [2], failures: [] });
  });

  test("behind the cursor is that of an earlier run, and none", () => {
    const seen = subscribe();
    seen.take(snapshot(3), end(2));
    expect(seen).toMatchObject({ ended: [], asked: [] });
  });

  test("ahead of the cursor is no end yet: what is before it is asked for", () => {
    const seen = subscribe();
    seen.take(snapshot(3), end(5));
    expect(seen).toMatchObject({ ended: [], asked: [`${A}.3`] });
    seen.take(snapshot(5, 3), end(5));
    expect(seen).toMatchObject({ ended: [jobAt(5)], revisions: [4, 5] });
  });

  test("of another log is none: that log is asked for", () => {
    const seen = subscribe();
    seen.take(snapshot(3), end(3, B));
    expect(seen).toMatchObject({ ended: [], asked: [`${A}.3`] });
    seen.take(snapshot(3, undefined, B), end(3, B));
    expect(seen.ended).toEqual([jobAt(3, B)]);
  });
});

// ── any number of links, in any order ────────────────────────────────────────────────────────────

/** A server and the pipes from it: at most two, the second one tried beside the first. */
function world() {
  let epoch = 0;
  let head = 1;
  const pipes: Frame[][] = [];

  const epochNow = () => EPOCHS[epoch] as string;

  /** What a server answers to a cursor. */
  const answer = (cursor: string | undefined): Frame => {
    const [of, revision] = cursor?.split(".") ?? [];
    return snapshot(head, of === epochNow() ? Number(revision) : undefined, epochNow());
  };
  const seen = subscribe({
    onAsk(cursor) {
      for (const pipe of pipes) pipe.push(answer(cursor));
    },
  });
  const { subscription } = seen;

  const open = () => void pipes.push([answer(subscription.cursor)]);
  const openFirst = () => {
    subscription.unanswer();
    open();
  };
  const deliver = (pipe: Frame[] | undefined, count: number) =>
    seen.take(...(pipe?.splice(0, count) ?? []));

  openFirst();
  return {
    seen,
    publish() {
      head += 1;
      for (const pipe of pipes) pipe.push(update(head, epochNow()));
    },
    /** Another link is tried beside the one that works. */
    climb() {
      if (pipes.length === 1 && subscription.job) open();
    },
    deliver: (at: number, count: number) => deliver(pipes[at % pipes.length], count),
    /** What is under way is lost. */
    cut(at: number) {
      pipes.splice(at % pipes.length, 1);
      if (!pipes.length) openFirst();
    },
    /** What is under way becomes one frame: the viewer was too slow. */
    fallBehind(at: number) {
      const pipe = pipes[at % pipes.length];
      const first = pipe?.find((frame) => frame.type === "update");
      if (!pipe || first?.type !== "update" || !first.cursor.startsWith(epochNow())) return;
      const since = Number(first.cursor.split(".")[1]) - 1;
      pipe.splice(pipe.indexOf(first), pipe.length, snapshot(head, since, epochNow()));
    },
    /** The server has lost its logs, and begins anew; but once. */
    restart() {
      if (epoch > 0) return;
      epoch = 1;
      head = 1;
      for (const pipe of pipes) pipe.push(snapshot(head, undefined, epochNow()));
    },
    finish() {
      for (const pipe of pipes) pipe.push(end(head, epochNow()));
      // To the last frame, and those that are asked for because of it.
      while (pipes.some((pipe) => pipe.length)) for (const pipe of pipes) deliver(pipe, 1);
      expect(seen.ended).toEqual([jobAt(head, epochNow())]);
    },
    get head() {
      return head;
    },
  };
}
type World = ReturnType<typeof world>;
type Step = (of: World) => void;

const AT = fc.nat({ max: 1 });
const steps: fc.WeightedArbitrary<Step>[] = [
  { weight: 6, arbitrary: fc.constant((of) => of.publish()) },
  { weight: 2, arbitrary: fc.constant((of) => of.climb()) },
  {
    weight: 8,
    arbitrary: fc.tuple(AT, fc.nat({ max: 4 })).map(
      (args): Step =>
        (of) =>
          of.deliver(...args),
    ),
  },
  {
    weight: 1,
    arbitrary: AT.map(
      (at): Step =>
        (of) =>
          of.cut(at),
    ),
  },
  {
    weight: 1,
    arbitrary: AT.map(
      (at): Step =>
        (of) =>
          of.fallBehind(at),
    ),
  },
];
const RUNS = { seed: 20_260_503, numRuns: 500 };

/** The first state, then event after event; a state that is not resumed is the only break. */
function inOrder({ shown }: World["seen"]): void {
  shown.forEach(({ epoch, revision, events, resumed }, i) => {
    const before = shown[i - 1];
    if (!resumed) expect(events).toEqual([]);
    else {
      expect(epoch).toBe(before?.epoch);
      expect(events).toEqual(range((before?.revision ?? 0) + 1, revision));
    }
    if (before?.epoch === epoch) expect(revision).toBeGreaterThan(before.revision);
  });
}

describe("over two links, each in order, both interleaved and cut in any way", () => {
  test("every event since the first state comes once and in order, and then the end", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(...steps), { maxLength: 60 }), (script) => {
        const of = world();
        for (const step of script) step(of);
        of.finish();
        const { seen, head } = of;
        expect(seen.shown.filter(({ resumed }) => !resumed)).toHaveLength(1);
        expect(seen.revisions).toEqual(range((seen.shown[0]?.revision ?? 0) + 1, head));
        inOrder(seen);
      }),
      RUNS,
    );
  });

  test("when the log is lost, nobody is sent back, and each break is told", () => {
    const restart: Step = (of) => of.restart();
    const withLoss = fc.oneof(...steps, { weight: 1, arbitrary: fc.constant(restart) });
    fc.assert(
      fc.property(fc.array(withLoss, { maxLength: 60 }), (script) => {
        const of = world();
        for (const step of script) step(of);
        of.finish();
        inOrder(of.seen);
        // A log that was left is not come back to.
        const epochs = of.seen.shown.map(({ epoch }) => EPOCHS.indexOf(epoch as typeof A));
        expect(epochs).toEqual(epochs.toSorted());
      }),
      RUNS,
    );
  });
});

// ── refusals ─────────────────────────────────────────────────────────────────────────────────────

const refusalOf = (
  code: "unknown_job" | "too_many_viewers" | "forbidden",
  retryable = false,
  retryAfterMs?: number,
) => new MonitorClientError(code, code, { jobId: JOB, retryable, retryAfterMs });

const unknown = refusalOf("unknown_job");

describe("a refusal", () => {
  test("of a job that is unknown is one of a job that is not there yet, for 15 s", () => {
    const seen = subscribe();
    const { subscription, clock } = seen;
    const started = clock.now();
    for (let asks = 1; !seen.failures.length; asks += 1) {
      const age = clock.now() - started;
      subscription.refuse(unknown);
      if (age >= 15_000) break;
      expect(subscription.refusal?.cause).toBe(unknown);
      clock.advance((subscription.refusal?.retryAt ?? 0) - clock.now());
      expect(seen.asked).toHaveLength(asks);
      expect(subscription.refusal).toBe(null);
    }
    expect(seen).toMatchObject({ failures: [unknown], drops: 1 });
    expect(seen.asked.length).toBeGreaterThan(10);
    clock.advance(60_000);
    expect(seen.failures).toHaveLength(1);
  });

  test("of a job that has come after all is forgotten", () => {
    const seen = subscribe();
    seen.subscription.refuse(unknown);
    seen.take(snapshot(1));
    expect(seen.subscription).toMatchObject({ refusal: null, answered: true });
    seen.clock.advance(60_000);
    expect(seen).toMatchObject({ asked: [], failures: [] });
  });

  test("of a job that was there and is gone is final", () => {
    const seen = subscribe();
    seen.take(snapshot(1));
    seen.subscription.refuse(unknown);
    expect(seen.failures).toEqual([unknown]);
  });

  test("that is final fails at once, and once", () => {
    const seen = subscribe();
    const forbidden = refusalOf("forbidden");
    seen.subscription.refuse(forbidden);
    seen.subscription.end(unknown);
    expect(seen).toMatchObject({ failures: [forbidden], drops: 1, asked: [] });
  });

  test("that may be taken back is asked again later and later, never longer than the longest", () => {
    const seen = subscribe({ chance: 0.999_999 });
    const { subscription, clock } = seen;
    const waits: number[] = [];
    for (let i = 0; i < 9; i += 1) {
      subscription.refuse(refusalOf("too_many_viewers", true));
      const ms = (subscription.refusal?.retryAt ?? 0) - clock.now();
      waits.push(Math.round(ms));
      clock.advance(ms - 1);
      expect(seen.asked).toHaveLength(i);
      clock.advance(1);
      expect(seen.asked).toHaveLength(i + 1);
    }
    const doubling = range(0, 8).map((n) =>
      Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** n),
    );
    expect(waits).toEqual(doubling);
    expect(seen.failures).toEqual([]);
  });

  test("is not asked again before the server's time, and jitter comes on top", () => {
    const seen = subscribe({ chance: 0.5 });
    seen.subscription.refuse(refusalOf("too_many_viewers", true, 7_000));
    seen.clock.advance(7_000 + FIRST_BACKOFF_MS / 2 - 1);
    expect(seen.asked).toEqual([]);
    seen.clock.advance(1);
    expect(seen.asked).toEqual([undefined]);
  });

  test("for a month is asked again in ten minutes: timers cannot wait longer than 24 days", () => {
    const seen = subscribe({ chance: 0 });
    const { subscription, clock } = seen;
    subscription.refuse(refusalOf("too_many_viewers", true, 30 * 24 * 3_600_000));
    expect((subscription.refusal?.retryAt ?? 0) - clock.now()).toBe(LONGEST_MS);
  });

  test("is void when there is another link", () => {
    const seen = subscribe();
    seen.subscription.refuse(refusalOf("too_many_viewers", true));
    seen.subscription.unanswer();
    seen.clock.advance(60_000);
    expect(seen).toMatchObject({ asked: [], subscription: { refusal: null } });
  });
});

describe("the last viewer", () => {
  const viewer = { changed() {}, ended() {}, connected() {} };

  test("takes the subscription along, but not at once", () => {
    const seen = subscribe();
    const { subscription } = seen;
    for (const each of [...subscription.viewers]) subscription.leave(each);
    expect(seen.drops).toBe(0);
    seen.clock.advance(0);
    expect(seen.drops).toBe(1);
  });

  test("leaves it to one that comes in the same turn", () => {
    const seen = subscribe();
    const { subscription } = seen;
    for (const each of [...subscription.viewers]) subscription.leave(each);
    subscription.viewers.add(viewer);
    seen.clock.advance(0);
    expect(seen.drops).toBe(0);
  });
});
