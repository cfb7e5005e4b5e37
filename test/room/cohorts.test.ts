import {
  type Announced,
  allowAll,
  type Cursor,
  createWorkflowMonitor,
  memoryStore,
  type WorkflowMonitor,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { ManualClock, settle, turns } from "../support/clock.js";
import { Crowd, countTurns, type Onlooker } from "../support/crowd.js";
import { range } from "../support/frames.js";
import { createCodec, join } from "../support/member.js";
import { recorder } from "../support/server.js";
import { announcingStore } from "../support/stores.js";
import { until } from "../support/wait.js";

const JOB = "job";
/** So many members have their turn at a time. */
const TURN = 2_000;

/** A monitor on a clock of its own, with one job; closed at the end of the test. */
async function start(options: Partial<WorkflowMonitorOptions> = {}) {
  const clock = new ManualClock();
  const { logger, lines } = recorder();
  const monitor = createWorkflowMonitor({ authorize: allowAll, clock, logger, ...options });
  onTestFinished(async () => {
    await settle(clock, monitor.close());
  });
  await monitor.publish({ type: "job", jobId: JOB, status: "running" });
  return { clock, monitor, lines, crowd: new Crowd() };
}

const say = (monitor: WorkflowMonitor, message: string): Promise<Cursor> =>
  monitor.publish({ type: "job", jobId: JOB, message });

const state = (monitor: WorkflowMonitor, status: "completed" | "running", run = 1) =>
  monitor.publish({ type: "job", jobId: JOB, status, run });

/** With a plan of these a job is over 64 KiB. */
const stages = range(1, 300).map((n) => ({ stage: `stage ${n}` }));

/** Everybody stands at the head, and nothing was wrong on the way. */
async function atHead(crowd: Crowd, { revision }: Cursor, members = crowd.all): Promise<void> {
  await until("all have had their turn", () =>
    members.every(({ cursor }) => cursor?.revision === revision),
  );
  expect(crowd.faults).toEqual([]);
}

/** Everybody whose turn can come has had it. */
async function quiet(crowd: Crowd): Promise<void> {
  for (let before = -1; before !== crowd.writes; ) {
    before = crowd.writes;
    await turns(6);
  }
}

/** Each value once. */
const values = <T>(members: Onlooker[], of: (member: Onlooker) => T): T[] => [
  ...new Set(members.map(of)),
];

describe("[D5] in one turn of the event loop", () => {
  test.each([5_000, 20_000])("[D5] a room of %i writes to about 2,000", async (count) => {
    const { monitor, crowd } = await start();
    await crowd.joinMany(monitor, JOB, count);
    const { perTurn, stop } = countTurns(crowd);
    const head = await say(monitor, "news");
    await atHead(crowd, head);
    await turns(2);
    stop();
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(TURN);
    expect(perTurn.reduce((sum, writes) => sum + writes)).toBe(count);
    expect(values(crowd.all, ({ writes }) => writes)).toEqual([2]);
  });

  test("[D5] it writes to no more when its members differ in codec and mode", async () => {
    const { monitor, crowd } = await start();
    const codec = createCodec();
    const kinds = [
      { mode: "full" },
      { mode: "delta" },
      { mode: "full", codec },
      { mode: "delta", codec },
    ] as const;
    for (const kind of kinds) await crowd.joinMany(monitor, JOB, 1_200, kind);
    await crowd.joinMany(monitor, JOB, 10, { codec: createCodec() });
    const { perTurn, stop } = countTurns(crowd);
    const head = await say(monitor, "news");
    await atHead(crowd, head);
    await turns(2);
    stop();
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(TURN);
  });

  test("[D5] it writes to no more while a batch comes in every turn", async () => {
    const { monitor, crowd } = await start();
    await crowd.joinMany(monitor, JOB, 4_000);
    const { perTurn, stop } = countTurns(crowd);
    const all = range(1, 640).map((n) => say(monitor, `${n}`)); // 64 events a batch
    const head = (await Promise.all(all)).at(-1) as Cursor;
    await atHead(crowd, head);
    stop();
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(TURN);
    expect(values(crowd.all, ({ shown }) => shown)).toEqual([640]);
  });

  test("[D5] it writes to no more when the head jumps", async () => {
    const inner = memoryStore();
    let deaf = false;
    const { store } = announcingStore(inner, (note, tell) => deaf || tell(note));
    const { monitor, crowd } = await start({ store });
    await crowd.joinMany(monitor, JOB, 5_000);
    deaf = true;
    await say(monitor, "lost");
    deaf = false;
    const { perTurn, stop } = countTurns(crowd);
    const head = await say(monitor, "found"); // it does not follow: the log is read
    await atHead(crowd, head);
    stop();
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(TURN);
    expect(values(crowd.all, ({ shown }) => shown)).toEqual([2]);
  });

  test("[D5] a small room writes all that is announced in it", async () => {
    const inner = memoryStore();
    const kept: Announced[] = [];
    let told = (_note: Announced) => {};
    const { store } = announcingStore(inner, (note, tell) => {
      told = tell;
      kept.push(note);
    });
    const { monitor } = await start({ store });
    const { member } = await join(monitor, JOB);
    for (const n of range(1, 3)) await say(monitor, `${n}`);
    for (const note of kept) told(note);
    await turns(2);
    expect(member.types()).toEqual(["snapshot", "update", "update", "update"]);
  });
});

describe("[D5] who waits for his turn", () => {
  test("[D5] gets what came meanwhile along with it, everything once and in order", async () => {
    const { monitor, crowd } = await start();
    await crowd.joinMany(monitor, JOB, 10_000);
    await crowd.joinMany(monitor, JOB, 6_000, { mode: "delta", codec: createCodec() });
    let head: Cursor | undefined;
    for (const n of range(1, 12)) head = await say(monitor, `${n}`);
    await atHead(crowd, head as Cursor);
    const writes = crowd.all.map((onlooker) => onlooker.writes - 1);
    expect(Math.min(...writes)).toBeLessThan(12);
    expect(values(crowd.all, ({ shown }) => shown)).toEqual([12]);
    expect(monitor.stats().delivered).toBe(12 * 16_000);
  });

  test("[D5] gets one snapshot instead when that is too much", async () => {
    const { monitor, crowd } = await start();
    await crowd.joinMany(monitor, JOB, 4_000);
    await crowd.joinMany(monitor, JOB, 4_000, { mode: "delta", codec: createCodec() });
    const all = range(1, 1_000).map((n) => say(monitor, `${n} ${"x".repeat(400)}`));
    const head = (await Promise.all(all)).at(-1) as Cursor;
    await atHead(crowd, head);
    expect(values(crowd.all, ({ shown }) => shown)).toEqual([1_000]);
    // The first ones had their turn before the second batch, and so on.
    const late = crowd.all.filter(({ snapshots }) => snapshots > 0);
    expect(late.length).toBeGreaterThan(7_000);
    expect(monitor.stats().delivered).toBe(1_000 * 8_000);
  });

  test("[D5] may leave, be full, or have just come", async () => {
    const { monitor, crowd } = await start();
    const old = await crowd.joinMany(monitor, JOB, 10_000);
    const published = await say(monitor, "one");
    const waiting = old.filter(({ cursor }) => cursor?.revision !== published.revision);
    expect(waiting.length).toBeGreaterThan(TURN);
    const gone = waiting.filter((_, at) => at % 3 === 0);
    const full = waiting.filter((_, at) => at % 3 === 1);
    for (const onlooker of gone) onlooker.leave();
    for (const onlooker of full) onlooker.writable = false;
    const late = await crowd.joinMany(monitor, JOB, 100);
    expect(values(late, ({ cursor }) => cursor?.revision)).toEqual([2]);
    const head = await say(monitor, "two");
    await turns(1);
    const resumed = full.splice(0, 50);
    for (const onlooker of resumed) onlooker.drain();
    const stay = crowd.all.filter((one) => !gone.includes(one) && !full.includes(one));
    await atHead(crowd, head, stay);
    await turns(10);
    expect(values(gone, ({ writes }) => writes)).toEqual([1]);
    expect(values(full, ({ writes }) => writes)).toEqual([1]);
    expect(monitor.stats().parked).toBe(full.length);
    for (const onlooker of full) onlooker.drain();
    await atHead(crowd, head, [...stay, ...full]);
    expect(monitor.stats().parked).toBe(0);
  });

  test("[D5] gets what he missed once, when he drains before his turn", async () => {
    const { monitor, crowd } = await start();
    await crowd.joinMany(monitor, JOB, 6_000);
    const { revision } = await say(monitor, "one");
    const waiting = crowd.all.filter(({ cursor }) => cursor?.revision !== revision);
    for (const onlooker of waiting.slice(0, 100)) onlooker.drain();
    const head = await say(monitor, "two");
    for (const onlooker of waiting.slice(50, 200)) onlooker.drain();
    await atHead(crowd, head);
    expect(values(crowd.all, ({ shown }) => shown)).toEqual([2]);
  });
});

describe("[D5] the end of a job in a large room", () => {
  test("[D5] comes after the last update, to each cohort in its turn, once", async () => {
    const { monitor, crowd } = await start();
    const members = await crowd.joinMany(monitor, JOB, 5_000);
    members.push(...(await crowd.joinMany(monitor, JOB, 2_500, { mode: "delta" })));
    for (const n of range(1, 5)) void say(monitor, `${n}`);
    const head = await state(monitor, "completed");
    await atHead(crowd, head);
    await until("all were told", () => members.every(({ ends }) => ends.length > 0));
    await turns(5);
    expect(values(members, ({ over }) => over)).toEqual(["end"]);
    expect(values(members, ({ shown }) => shown)).toEqual([6]);
    expect(values(members, ({ ends }) => ends[0]?.code)).toEqual([1000]);
    expect(crowd.faults).toEqual([]);
    expect(monitor.stats().viewers.ws).toBe(0);
  });

  test("[D5] is none for those whose turn comes after a restart", async () => {
    const { monitor, crowd } = await start();
    const members = await crowd.joinMany(monitor, JOB, 12_000);
    void state(monitor, "completed");
    await turns(2);
    const head = await state(monitor, "running", 2);
    await until("all have had their turn", () =>
      members.every(({ over, cursor }) => over || cursor?.revision === head.revision),
    );
    await turns(5);
    const ended = members.filter(({ over }) => over);
    const stayed = members.filter(({ over }) => !over);
    expect(ended.length).toBeGreaterThan(0);
    expect(stayed.length).toBeGreaterThan(0);
    expect(values(ended, ({ shown }) => shown)).toEqual([1]);
    expect(values(stayed, ({ shown }) => shown)).toEqual([2]);
    expect(crowd.faults).toEqual([]);
    expect(monitor.stats().viewers.ws).toBe(stayed.length);
  });
});

describe("[D5] a room that goes while members wait for their turn", () => {
  test("[D5] because present throws tells everybody so, once", async () => {
    let broken = false;
    const { monitor, crowd, lines } = await start({
      present: (job) => {
        if (broken) throw new Error("no");
        return job;
      },
    });
    crowd.mayOverfill = true;
    const members = await crowd.joinMany(monitor, JOB, 7_000);
    for (const onlooker of members.slice(0, 10)) onlooker.writable = false;
    await say(monitor, "one");
    broken = true;
    await say(monitor, "two");
    await turns(10);
    expect(values(members, ({ over }) => over)).toEqual(["error"]);
    expect(values(members, ({ ends }) => ends.map(({ code }) => code).join())).toEqual(["1011"]);
    expect(crowd.faults).toEqual([]);
    expect(lines.filter(({ message }) => message === "the job cannot be shown")).toHaveLength(1);
    expect(monitor.stats()).toMatchObject({ parked: 0, viewers: { ws: 0 } });

    // The room is as good as new.
    broken = false;
    const [next] = await crowd.joinMany(monitor, JOB, 1);
    const head = await say(monitor, "three");
    await atHead(crowd, head, [next as Onlooker]);
  });

  test("[D9] because its node goes tells everybody so, once, and nothing follows", async () => {
    const { clock, monitor, crowd } = await start();
    crowd.mayOverfill = true;
    const members = await crowd.joinMany(monitor, JOB, 7_000);
    await say(monitor, "one");
    await settle(clock, monitor.close());
    const { writes } = crowd;
    await turns(10);
    expect(crowd.writes).toBe(writes);
    expect(values(members, ({ over }) => over)).toEqual(["error"]);
    expect(values(members, ({ ends }) => ends.map(({ code }) => code).join())).toEqual(["1012"]);
    expect(crowd.faults).toEqual([]);
    expect(clock.timers).toBe(0);
  });

  test("[D5] because all of them left sends nothing", async () => {
    const { clock, monitor, crowd } = await start({ lingerMs: 0 });
    const members = await crowd.joinMany(monitor, JOB, 5_000);
    await say(monitor, "one");
    const { writes } = crowd;
    for (const onlooker of members) onlooker.leave();
    clock.advance(1);
    expect(monitor.stats()).toMatchObject({ rooms: 0, viewers: { ws: 0 } });
    await turns(5);
    expect(crowd.writes).toBe(writes);
    const [next] = await crowd.joinMany(monitor, JOB, 1);
    await atHead(crowd, await say(monitor, "two"), [next as Onlooker]);
  });
});

describe("a member in whose write others leave", () => {
  test.each(["before", "after"])(
    "gets everything once, and so do the rest: those %s it",
    async (where) => {
      const { monitor } = await start();
      const all = await Promise.all(range(1, 9).map(() => join(monitor, JOB)));
      const [middle] = all.slice(4);
      const leaving = where === "before" ? all.slice(1, 4) : all.slice(5, 8);
      const write = middle?.member.write.bind(middle.member);
      if (!middle || !write) throw new Error("nobody joined");
      middle.member.write = (parts) => {
        write(parts);
        for (const { seat } of leaving) seat.leave({ code: 1000, reason: "bye" });
      };
      await say(monitor, "one");
      await say(monitor, "two");
      for (const one of all.filter((one) => !leaving.includes(one))) {
        expect(one.member.types()).toEqual(["snapshot", "update", "update"]);
        expect(one.member.ends).toEqual([]);
      }
      const others = where === "before" ? ["snapshot", "update"] : ["snapshot"];
      for (const { member } of leaving) expect(member.types()).toEqual(others);
      expect(monitor.stats().viewers.ws).toBe(6);
    },
  );
});

describe("a big job", () => {
  test("is served to viewers of all codecs and modes at the same time", async () => {
    const { clock, monitor } = await start();
    await monitor.publish({ type: "plan", jobId: JOB, stages });
    const members = [
      await join(monitor, JOB),
      await join(monitor, JOB, { codec: createCodec() }),
      await join(monitor, JOB, { codec: createCodec() }),
    ];
    const counts = () => members.map(({ member }) => member.writes.length);
    await say(monitor, "one");
    expect(counts()).toEqual([2, 2, 2]);
    await say(monitor, "two");
    expect(counts()).toEqual([2, 2, 2]);
    clock.advance(250);
    expect(counts()).toEqual([3, 3, 3]);
    await say(monitor, "three");
    clock.advance(249);
    expect(counts()).toEqual([3, 3, 3]);
    clock.advance(1);
    expect(counts()).toEqual([4, 4, 4]);
  });

  test("[D5] is served to a large room in as many turns as it takes", async () => {
    const { monitor, crowd } = await start();
    await monitor.publish({ type: "plan", jobId: JOB, stages });
    await crowd.joinMany(monitor, JOB, 5_000);
    const { perTurn, stop } = countTurns(crowd);
    const head = await say(monitor, "news");
    await atHead(crowd, head);
    stop();
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(TURN);
    expect(values(crowd.all, ({ writes }) => writes)).toEqual([2]);
  });
});

describe("[D5] whatever happens between the turns", () => {
  const who = fc.nat(30);
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ say: fc.integer({ min: 1, max: 3 }) }) },
    { weight: 1, arbitrary: fc.record({ say: fc.integer({ min: 20, max: 80 }) }) },
    { weight: 6, arbitrary: fc.record({ turns: fc.integer({ min: 1, max: 3 }) }) },
    { weight: 3, arbitrary: fc.record({ leave: who }) },
    { weight: 4, arbitrary: fc.record({ fill: who }) },
    { weight: 4, arbitrary: fc.record({ drain: who }) },
    { weight: 3, arbitrary: fc.record({ join: fc.nat(3), after: fc.option(who) }) },
    { weight: 1, arbitrary: fc.record({ end: fc.constant(true) }) },
    { weight: 2, arbitrary: fc.record({ restart: fc.constant(true) }) },
    { weight: 1, arbitrary: fc.record({ grow: fc.constant(true) }) },
    { weight: 2, arbitrary: fc.record({ pass: fc.integer({ min: 1, max: 300 }) }) },
  );

  test("[D5] everybody gets everything once and in order", { timeout: 30_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const clock = new ManualClock();
        const monitor = createWorkflowMonitor({ authorize: allowAll, clock });
        const crowd = new Crowd();
        const codec = createCodec();
        const kinds = [{}, { mode: "delta" }, { codec }, { mode: "delta", codec }] as const;
        await state(monitor, "running");
        // Enough to fill a turn: the others have theirs later, or earlier.
        await crowd.joinMany(monitor, JOB, TURN - 5);
        const some: Onlooker[] = [];
        const join = async (kind: number, after?: Cursor) =>
          some.push(await crowd.join(monitor, JOB, { ...kinds[kind], ...(after && { after }) }));
        for (const n of range(1, 12)) await join(n % 4);
        const gone = new Set<Onlooker>();
        const delivered = new Map<string, number>();
        monitor.on("leave", (event) => delivered.set(event.viewer, event.delivered));
        const pick = (n: number) => some[n % some.length] as Onlooker;
        let run = 1;
        let count = 0;
        for (const one of steps) {
          if ("say" in one) {
            for (const _ of range(1, one.say)) {
              count += 1;
              void say(monitor, `${count} ${"x".repeat(300)}`);
            }
          } else if ("turns" in one) await turns(one.turns);
          else if ("leave" in one) {
            pick(one.leave).leave();
            gone.add(pick(one.leave));
          } else if ("fill" in one) pick(one.fill).writable = false;
          else if ("drain" in one) pick(one.drain).drain();
          else if ("join" in one) {
            await join(one.join, one.after === null ? undefined : pick(one.after).cursor);
          } else if ("end" in one) void state(monitor, "completed", run);
          else if ("grow" in one) void monitor.publish({ type: "plan", jobId: JOB, stages });
          else if ("pass" in one) clock.advance(one.pass);
          else {
            run += 1;
            void state(monitor, "running", run);
          }
        }
        const head = await say(monitor, "the last");
        for (const onlooker of some) onlooker.drain();
        for (const _ of range(1, 3)) {
          await quiet(crowd);
          clock.advance(250);
        }
        await quiet(crowd);
        expect(crowd.faults).toEqual([]);
        for (const onlooker of crowd.all) {
          if (gone.has(onlooker)) continue;
          expect(onlooker.ends).toHaveLength(onlooker.over ? 1 : 0);
          if (!onlooker.over) expect(onlooker.cursor?.revision).toBe(head.revision);
        }
        expect(monitor.stats().parked).toBe(0);
        crowd.mayOverfill = true;
        await settle(clock, monitor.close());
        expect(clock.timers).toBe(0);
        expect(crowd.faults).toEqual([]);
        for (const onlooker of crowd.all) {
          const viewer = `v${onlooker.seat?.id.toString(36)}`;
          expect(delivered.get(viewer)).toBe(onlooker.delivered);
        }
        const all = crowd.all.reduce((sum, onlooker) => sum + onlooker.delivered, 0);
        expect(monitor.stats().delivered).toBe(all);
      }),
      { numRuns: 10 },
    );
  });
});
