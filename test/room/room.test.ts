import {
  type Announced,
  allowAll,
  type Cursor,
  createWorkflowMonitor,
  type Frame,
  type JobStore,
  type LeaveEvent,
  memoryStore,
  type WorkflowMonitor,
  type WorkflowMonitorError,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { ManualClock, settle, turns } from "../support/clock.js";
import { as, range, revisionsIn } from "../support/frames.js";
import { createCodec, FakeMember, join, watchRequest } from "../support/member.js";
import { recorder } from "../support/server.js";
import { announcingStore, countingStore, type Held, heldStore } from "../support/stores.js";
import { inTime, until } from "../support/wait.js";

const JOB = "job";
const BYE = { code: 1000, reason: "bye" } as const;

/** A monitor on a clock of its own, closed at the end of the test. */
function start(options: Partial<WorkflowMonitorOptions> & { clock?: ManualClock } = {}) {
  const clock = options.clock ?? new ManualClock();
  const { logger, lines } = recorder();
  const monitor = createWorkflowMonitor({ authorize: allowAll, clock, logger, ...options });
  onTestFinished(async () => {
    await settle(clock, monitor.close());
  });
  return { clock, monitor, lines };
}

const say = (monitor: WorkflowMonitor, message: string, jobId = JOB): Promise<Cursor> =>
  monitor.publish({ type: "job", jobId, message });

const begin = (monitor: WorkflowMonitor, jobId = JOB): Promise<Cursor> =>
  monitor.publish({ type: "job", jobId, status: "running" });

/** One batch: what is published in one turn. */
async function burst(monitor: WorkflowMonitor, count: number, text = "m"): Promise<Cursor> {
  const all = range(1, count).map((n) => say(monitor, `${text}${n}`));
  return (await Promise.all(all)).at(-1) as Cursor;
}

/** The code with which a promise rejects; a resolved one is told as "none". */
const refusal = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "none",
    (error: WorkflowMonitorError) => error.code,
  );

const messages = (frames: Frame[]) =>
  frames
    .flatMap((frame) =>
      frame.type === "update" ? [frame.event] : frame.type === "snapshot" ? frame.events : [],
    )
    .map((event) => ("message" in event ? event.message : undefined));

describe("a flush", () => {
  test("writes one and the same buffer to all members of a codec and mode", async () => {
    const { monitor } = start();
    await begin(monitor);
    const codec = createCodec();
    const full = await Promise.all(range(1, 5).map(() => join(monitor, JOB)));
    const delta = await Promise.all(range(1, 5).map(() => join(monitor, JOB, { mode: "delta" })));
    const foreign = await Promise.all(range(1, 2).map(() => join(monitor, JOB, { codec })));
    await say(monitor, "one");
    const buffers = [full, delta, foreign].map((members) => {
      const written = members.map(({ member }) => member.writes.at(-1) as readonly Uint8Array[]);
      for (const parts of written) expect(parts).toHaveLength(1);
      for (const [part] of written) expect(part).toBe(written[0]?.[0]);
      return written[0]?.[0];
    });
    expect(new Set(buffers).size).toBe(3);
    for (const { member } of [...full, ...delta, ...foreign]) {
      expect(member.types()).toEqual(["snapshot", "update"]);
    }
  });

  test("is one write for a batch of 20 events", async () => {
    const { monitor } = start();
    await begin(monitor);
    const members = [
      ...(await Promise.all(range(1, 3).map(() => join(monitor, JOB)))),
      ...(await Promise.all(range(1, 3).map(() => join(monitor, JOB, { mode: "delta" })))),
    ];
    await burst(monitor, 20);
    for (const { member } of members) {
      expect(member.writes).toHaveLength(2);
      expect(revisionsIn(member.frames(1))).toEqual(range(2, 21));
      expect(messages(member.frames(1))).toEqual(range(1, 20).map((n) => `m${n}`));
    }
    expect(monitor.stats().delivered).toBe(6 * 20);
  });

  test("of more than 64 KiB in mode full is one snapshot frame with every event", async () => {
    const { monitor } = start();
    await monitor.publish({
      type: "job",
      jobId: JOB,
      status: "running",
      metadata: { text: "x".repeat(4_000) },
    });
    const full = await join(monitor, JOB);
    const delta = await join(monitor, JOB, { mode: "delta" });
    await burst(monitor, 10); // 10 · 4.5 KB
    expect(full.member.types(1)).toEqual(range(1, 10).map(() => "update"));
    await burst(monitor, 30, "n"); // 30 · 4.5 KB
    expect(full.member.writes).toHaveLength(3);
    const frame = as("snapshot", full.member.frames(2)[0]);
    expect(frame).toMatchObject({ behind: true, resumed: true, job: { message: "n30" } });
    expect(messages([frame])).toEqual(range(1, 30).map((n) => `n${n}`));
    expect(delta.member.types(1)).toEqual(range(1, 40).map(() => "update"));
    expect(revisionsIn(delta.member.frames(1))).toEqual(range(2, 41));
    expect(monitor.stats().delivered).toBe(80);
    await say(monitor, "live");
    expect(full.member.types(3)).toEqual(["update"]);
  });
});

describe("a member that cannot take more", () => {
  test.each(["full", "delta"] as const)(
    "is parked while the others go on, and comes back with one snapshot frame: mode %s",
    async (mode) => {
      const { monitor } = start();
      await begin(monitor);
      const slow = await join(monitor, JOB, { mode });
      const other = await join(monitor, JOB, { mode });
      await say(monitor, "seen");
      slow.member.writable = false;
      for (const n of range(1, 5)) await say(monitor, `m${n}`);
      await burst(monitor, 3, "b");
      expect(slow.member.writes).toHaveLength(2);
      expect(monitor.stats().parked).toBe(1);
      expect(revisionsIn(other.member.frames())).toEqual(range(2, 10));

      slow.seat.resume();
      expect(slow.member.writes).toHaveLength(2); // it still cannot
      slow.member.writable = true;
      slow.seat.resume();
      expect(slow.member.writes).toHaveLength(3);
      const frame = as("snapshot", slow.member.frames(2)[0]);
      expect(frame).toMatchObject({ behind: true, resumed: true, done: false });
      expect(messages([frame])).toEqual(["m1", "m2", "m3", "m4", "m5", "b1", "b2", "b3"]);
      expect(revisionsIn([frame])).toEqual(range(3, 10));
      expect(frame.job).toEqual(await monitor.get(JOB));
      expect(monitor.stats().parked).toBe(0);

      await say(monitor, "live");
      expect(slow.member.types(3)).toEqual(["update"]);
      expect(revisionsIn(slow.member.frames())).toEqual(range(2, 11));
      expect(revisionsIn(other.member.frames())).toEqual(range(2, 11));
      expect(monitor.stats().delivered).toBe(20);
      slow.seat.leave(BYE);
    },
  );

  test("gets no frame when it comes back and missed nothing", async () => {
    const { monitor } = start();
    await begin(monitor);
    const { member, seat } = await join(monitor, JOB);
    member.writable = false;
    seat.resume();
    member.writable = true;
    seat.resume();
    seat.resume();
    expect(member.types()).toEqual(["snapshot"]);
    await say(monitor, "next");
    seat.resume();
    expect(member.types()).toEqual(["snapshot", "update"]);
  });

  test("waits for its first frame, too, and then gets it once", async () => {
    const { monitor } = start();
    await begin(monitor);
    const member = new FakeMember();
    member.writable = false;
    const seat = await monitor.egress.join(watchRequest(JOB), member, null);
    await say(monitor, "meanwhile");
    expect(member.writes).toHaveLength(0);
    member.writable = true;
    seat.resume();
    const [first] = member.frames();
    expect(as("snapshot", first)).toMatchObject({ resumed: false, job: { message: "meanwhile" } });
    expect("behind" in as("snapshot", first)).toBe(false);
    await say(monitor, "next");
    expect(member.types()).toEqual(["snapshot", "update"]);
  });

  test("keeps what it missed over several times of being slow", async () => {
    const { monitor } = start();
    await begin(monitor);
    const { member, seat } = await join(monitor, JOB);
    let n = 0;
    for (const round of range(1, 30)) {
      member.writable = round % 3 === 0;
      seat.resume();
      for (const _ of range(1, round % 4)) {
        n += 1;
        await say(monitor, `m${n}`);
      }
    }
    member.writable = true;
    seat.resume();
    expect(revisionsIn(member.frames())).toEqual(range(2, n + 1));
    expect(messages(member.frames())).toEqual(range(1, n).map((k) => `m${k}`));
    expect(monitor.stats().delivered).toBe(n);
  });

  test("shares its catch-up frame with those who missed the same", async () => {
    const { monitor } = start();
    await begin(monitor);
    const slow = await Promise.all(range(1, 4).map(() => join(monitor, JOB)));
    for (const { member } of slow) member.writable = false;
    await burst(monitor, 5);
    for (const { member, seat } of slow) {
      member.writable = true;
      seat.resume();
    }
    const written = slow.map(({ member }) => member.writes.at(-1) as readonly Uint8Array[]);
    for (const parts of written) {
      expect(parts.map((part, at) => part === written[0]?.[at])).toEqual(parts.map(() => true));
    }
  });

  test("is told that history does not reach back when it does not: resumed false", async () => {
    const { monitor } = start({ limits: { historyBytes: 1 }, stallTimeoutMs: 0 });
    await begin(monitor);
    const slow = await join(monitor, JOB);
    slow.member.writable = false;
    for (const n of range(1, 100)) await say(monitor, `${n} ${"x".repeat(500)}`);
    slow.member.writable = true;
    slow.seat.resume();
    const frame = as("snapshot", slow.member.frames(1)[0]);
    expect(frame).toMatchObject({ behind: true, resumed: false, events: [] });
    expect(frame.job).toEqual(await monitor.get(JOB));
    await say(monitor, "live");
    expect(slow.member.types(2)).toEqual(["update"]);
  });

  test("gets the last event and the end when it comes back after the end", async () => {
    const { monitor } = start();
    await begin(monitor);
    const { member, seat } = await join(monitor, JOB);
    member.writable = false;
    await say(monitor, "last words");
    await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    expect(member.ends).toEqual([]);
    member.writable = true;
    seat.resume();
    const [snapshot, end] = member.frames(1);
    expect(as("snapshot", snapshot)).toMatchObject({ behind: true, resumed: true, done: true });
    expect(revisionsIn([as("snapshot", snapshot)])).toEqual([2, 3]);
    expect(as("end", end)).toMatchObject({ status: "completed" });
    expect(member.ends).toEqual([{ code: 1000, reason: expect.any(String) }]);
    await monitor.publish({ type: "job", jobId: JOB, run: 2, status: "running" });
    expect(member.writes).toHaveLength(3);
  });

  test("does not see the end when the job restarted before it came back", async () => {
    const { monitor } = start();
    await begin(monitor);
    const { member, seat } = await join(monitor, JOB);
    member.writable = false;
    await monitor.publish({ type: "job", jobId: JOB, status: "failed" });
    await monitor.publish({ type: "job", jobId: JOB, run: 2, status: "running" });
    member.writable = true;
    seat.resume();
    expect(member.types(1)).toEqual(["snapshot"]);
    expect(revisionsIn(member.frames(1))).toEqual([2, 3]);
    expect(as("snapshot", member.frames(1)[0])).toMatchObject({ done: false, job: { run: 2 } });
    expect(member.ends).toEqual([]);
  });
});

describe("a big job", () => {
  /** Over 64 KiB: 300 stages. */
  async function big(monitor: WorkflowMonitor): Promise<void> {
    const stages = range(1, 300).map((n) => ({ stage: `stage ${n}` }));
    await monitor.publish({ type: "plan", jobId: JOB, stages });
    await begin(monitor);
  }

  test("is served to viewers in mode full at most four times a second", async () => {
    const { clock, monitor } = start();
    await big(monitor);
    const full = await join(monitor, JOB);
    const delta = await join(monitor, JOB, { mode: "delta" });
    const times: number[] = [];
    const begun = clock.now();
    for (const n of range(1, 100)) {
      const before = full.member.writes.length;
      await say(monitor, `m${n}`);
      clock.advance(25);
      for (const _ of range(before + 1, full.member.writes.length)) times.push(clock.now() - begun);
    }
    clock.advance(1_000);
    for (const at of times) {
      expect(times.filter((time) => time >= at && time < at + 1_000).length).toBeLessThanOrEqual(5);
    }
    expect(times.length).toBeGreaterThanOrEqual(9);
    expect(times.length).toBeLessThanOrEqual(11);
    expect(new Set(full.member.types())).toEqual(new Set(["snapshot"]));
    expect(revisionsIn(full.member.frames())).toEqual(range(3, 102));
    expect(revisionsIn(delta.member.frames())).toEqual(range(3, 102));
    expect(as("snapshot", full.member.frames().at(-1)).job.message).toBe("m100");
  });

  test("is not served more often because a connection drains", async () => {
    const { clock, monitor } = start();
    await big(monitor);
    const { member, seat } = await join(monitor, JOB);
    for (const n of range(1, 40)) {
      await say(monitor, `m${n}`);
      seat.resume();
      clock.advance(25);
    }
    clock.advance(1_000);
    expect(revisionsIn(member.frames())).toEqual(range(3, 42));
    expect(member.writes.length - 1).toBeLessThanOrEqual(5);
  });

  test("ends for everybody, although the last update had to wait", async () => {
    const { clock, monitor } = start();
    await big(monitor);
    const members = await Promise.all(range(1, 3).map(() => join(monitor, JOB)));
    await say(monitor, "m1");
    await say(monitor, "m2");
    await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    clock.advance(250);
    for (const { member } of members) {
      expect(member.types()).toEqual(["snapshot", "snapshot", "snapshot", "end"]);
      expect(revisionsIn(member.frames())).toEqual(range(3, 5));
      expect(member.ends).toMatchObject([{ code: 1000 }]);
    }
  });
});

describe("the life of a room", () => {
  test("goes on for lingerMs after the last leave, then is over", async () => {
    const clock = new ManualClock();
    const { store, counts } = countingStore({ clock });
    const { monitor } = start({ clock, store, lingerMs: 5_000 });
    await begin(monitor);
    const { seat } = await join(monitor, JOB);
    expect(counts).toMatchObject({ follows: 1, following: 1 });
    seat.leave(BYE);
    clock.advance(4_999);
    expect(monitor.stats().rooms).toBe(1);
    expect(counts.following).toBe(1);
    clock.advance(1);
    expect(monitor.stats().rooms).toBe(0);
    expect(counts.following).toBe(0);
  });

  test("is the same for who comes while it lingers, and knows what happened meanwhile", async () => {
    const clock = new ManualClock();
    const { store, counts } = countingStore({ clock });
    const { monitor } = start({ clock, store, lingerMs: 5_000 });
    await begin(monitor);
    const first = await join(monitor, JOB);
    first.seat.leave(BYE);
    clock.advance(4_000);
    await say(monitor, "while nobody watched");
    const { reads } = counts;
    const second = await join(monitor, JOB);
    expect(counts).toMatchObject({ reads, follows: 1 });
    expect(as("snapshot", second.member.frames()[0]).job.message).toBe("while nobody watched");
    clock.advance(60_000);
    await turns();
    expect(monitor.stats().rooms).toBe(1);
    await say(monitor, "live");
    expect(second.member.types()).toEqual(["snapshot", "update"]);
    expect(first.member.types()).toEqual(["snapshot"]);
    second.seat.leave(BYE);
    clock.advance(4_999);
    const third = await join(monitor, JOB);
    clock.advance(4_999);
    expect(monitor.stats().rooms).toBe(1);
    third.seat.leave(BYE);
  });

  test("counts a leave once, however often it is said", async () => {
    const { monitor, lines } = start();
    const left: LeaveEvent[] = [];
    monitor.on("leave", (event) => left.push(event));
    await begin(monitor);
    const { member, seat } = await join(monitor, JOB);
    const other = await join(monitor, JOB);
    seat.leave(BYE);
    seat.leave({ code: 1001, reason: "again" });
    seat.resume();
    await say(monitor, "next");
    seat.leave(BYE);
    expect(left).toMatchObject([{ code: 1000, reason: "bye", delivered: 0 }]);
    expect(lines.filter(({ message }) => message === "viewer disconnected")).toHaveLength(1);
    expect(monitor.stats().viewers.ws).toBe(1);
    expect(member.types()).toEqual(["snapshot"]);
    expect(member.ends).toEqual([]);
    expect(other.member.types()).toEqual(["snapshot", "update"]);
  });

  test("survives that each of many members leaves in the middle of a flush", async () => {
    const { monitor } = start();
    await begin(monitor);
    const seats: { member: FakeMember; leave: () => void }[] = [];
    for (const n of range(1, 20)) {
      const { member, seat } = await join(monitor, JOB);
      seats.push({ member, leave: () => seat.leave(BYE) });
      if (n % 3 !== 0) continue;
      // Its socket turns out to be dead at the write.
      const write = member.write.bind(member);
      member.write = (parts) => {
        write(parts);
        seat.leave(BYE);
      };
    }
    await say(monitor, "one");
    await say(monitor, "two");
    for (const [at, { member }] of seats.entries()) {
      expect(revisionsIn(member.frames())).toEqual((at + 1) % 3 === 0 ? [2] : [2, 3]);
    }
    expect(monitor.stats().viewers.ws).toBe(14);
  });

  test("lets members who are let go at the write leave others in place", async () => {
    const { monitor } = start();
    await begin(monitor);
    const all = await Promise.all(range(1, 6).map(() => join(monitor, JOB)));
    const [first] = all;
    if (!first) throw new Error("nobody joined");
    const write = first.member.write.bind(first.member);
    first.member.write = (parts) => {
      write(parts);
      for (const { seat } of all.slice(1, 4)) seat.leave(BYE);
    };
    await say(monitor, "one");
    await say(monitor, "two");
    expect(revisionsIn(first.member.frames())).toEqual([2, 3]);
    for (const { member } of all.slice(4)) expect(revisionsIn(member.frames())).toEqual([2, 3]);
  });

  test("does not begin for a job that is over: it is an answer", async () => {
    const { store, counts } = countingStore();
    const { monitor } = start({ store });
    await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    const { member } = await join(monitor, JOB);
    expect(member.types()).toEqual(["snapshot", "end"]);
    expect(member.ends).toMatchObject([{ code: 1000 }]);
    expect(counts).toMatchObject({ follows: 0, following: 0 });
    expect(monitor.stats()).toMatchObject({ rooms: 0, viewers: { ws: 0 } });
  });

  test("costs two reads for 5,000 who come back at once", async () => {
    const { store, counts } = countingStore();
    const { monitor } = start({ store });
    const after = await begin(monitor);
    await burst(monitor, 10);
    const before = counts.reads;
    const all = await Promise.all(range(1, 5_000).map(() => join(monitor, JOB, { after })));
    expect(counts.reads - before).toBe(2);
    expect(counts.follows).toBe(1);
    const frames = all.map(({ member }) => member.writes[0]?.[0]);
    expect(new Set(frames).size).toBe(1);
    expect(revisionsIn(all[4_999]?.member.frames() ?? [])).toEqual(range(2, 11));
    expect(monitor.stats()).toMatchObject({ rooms: 1, viewers: { ws: 5_000 } });
  });

  test("leaves the next room alone when a late announcement reaches an old one", async () => {
    const clock = new ManualClock();
    const notes: Announced[] = [];
    const { store, listeners } = announcingStore(memoryStore({ clock }), (note, tell) => {
      notes.push(note);
      tell(note);
    });
    const { monitor } = start({ clock, store, lingerMs: 100 });
    await begin(monitor);
    const old = await join(monitor, JOB);
    await say(monitor, "old");
    old.seat.leave(BYE);
    clock.advance(100);
    expect(monitor.stats().rooms).toBe(0);
    await say(monitor, "nobody watches");
    const next = await join(monitor, JOB);
    await say(monitor, "new");
    expect(listeners).toHaveLength(2);
    for (const note of notes) listeners[0]?.(note);
    listeners[0]?.({ cursor: { epoch: "zzzzzzzzzzzz", revision: 9 }, revisions: [], id: "x" });
    clock.advance(200);
    await turns();
    expect(old.member.types()).toEqual(["snapshot", "update"]);
    expect(next.member.types()).toEqual(["snapshot", "update"]);
    expect(monitor.stats()).toMatchObject({ rooms: 1, viewers: { ws: 1 } });
    const beat = JSON.parse(String(monitor.egress.heartbeat(next.member.codec)));
    expect(beat).toEqual({ type: "heartbeat", timestamp: expect.any(String) });
    await say(monitor, "newer");
    expect(revisionsIn(next.member.frames())).toEqual([4, 5]);
    next.seat.leave(BYE);
  });
});

describe("joining while the store is asked", () => {
  /** What a room asks of the store to open: read, follow, read; each done, then answered. */
  const STEPS = 6;

  /** Every way to put `appends` among the places before, between and after the steps. */
  function* interleavings(appends: number, from = 0): Generator<number[]> {
    if (appends === 0) yield [];
    else {
      for (let place = from; place <= STEPS; place++)
        for (const rest of interleavings(appends - 1, place)) yield [place, ...rest];
    }
  }

  async function nextCall(calls: Held[], at: number): Promise<Held> {
    await until(`call ${at} of the store`, () => calls.length > at);
    return calls[at] as Held;
  }

  test.each(["without a cursor", "with a cursor"])(
    "loses and repeats nothing, whenever events come: %s",
    { timeout: 30_000 },
    async (how) => {
      for (const places of interleavings(3)) {
        const inner = memoryStore();
        const { store, calls } = heldStore(inner);
        const publisher = createWorkflowMonitor({ authorize: allowAll, store: inner });
        const viewers = createWorkflowMonitor({ authorize: allowAll, store });
        const after = await begin(publisher);
        const member = new FakeMember();
        const joining = viewers.egress.join(
          watchRequest(JOB),
          member,
          how === "with a cursor" ? after : null,
        );
        let step = 0;
        let said = 0;
        const appendAll = async () => {
          for (const place of places) {
            if (place !== step) continue;
            said += 1;
            await say(publisher, `m${said}`);
          }
          step += 1;
        };
        for (let at = 0; at < 3; at++) {
          const call = await nextCall(calls, at);
          await appendAll();
          await call.perform();
          await appendAll();
          call.deliver();
        }
        const seat = await inTime(`the join, ${places}`, joining);
        await appendAll();
        await say(publisher, "last");
        const frames = member.frames();
        const first = as("snapshot", frames[0]);
        const base = Number(first.cursor.split(".")[1]);
        expect({ places, revisions: revisionsIn(frames) }).toEqual({
          places,
          revisions: how === "with a cursor" ? range(2, 5) : range(base + 1, 5),
        });
        expect(first.resumed).toBe(how === "with a cursor");
        expect(first.job.revision).toBe(base);
        const last = frames.at(-1);
        expect(last && "job" in last ? last.job : undefined).toEqual(await publisher.get(JOB));
        expect(calls).toHaveLength(3);
        seat.leave(BYE);
        await Promise.all([publisher.close(), viewers.close()]);
      }
    },
  );

  test("tells nobody of an unknown job who asked after it was published", async () => {
    const inner = memoryStore();
    const { store, calls } = heldStore(inner);
    const publisher = createWorkflowMonitor({ authorize: allowAll, store: inner });
    const { monitor } = start({ store });
    onTestFinished(() => publisher.close());
    const early = join(monitor, JOB);
    early.catch(() => {});
    const first = await nextCall(calls, 0);
    await first.perform(); // it found nothing
    await begin(publisher);
    const late = join(monitor, JOB);
    late.catch(() => {});
    first.deliver();
    await early.catch(() => {});
    const answered = (async () => {
      for (let at = 1; at < 8; at++) {
        const call = await nextCall(calls, at);
        await call.perform();
        call.deliver();
      }
    })();
    answered.catch(() => {});
    const { member } = await inTime("the join", late);
    expect(as("snapshot", member.frames()[0]).job.status).toBe("running");
  }, 15_000);

  test("shows nobody the end of a run who asked after the next one was published", async () => {
    const inner = memoryStore();
    const { store, calls } = heldStore(inner);
    const publisher = createWorkflowMonitor({ authorize: allowAll, store: inner });
    const { monitor } = start({ store });
    onTestFinished(() => publisher.close());
    await publisher.publish({ type: "job", jobId: JOB, status: "failed" });
    const early = join(monitor, JOB);
    early.catch(() => {});
    for (const at of [0, 1]) {
      const call = await nextCall(calls, at);
      await call.perform();
      if (at === 0) call.deliver();
    }
    await publisher.publish({ type: "job", jobId: JOB, run: 2, status: "running" });
    const late = join(monitor, JOB);
    late.catch(() => {});
    calls[1]?.deliver();
    await early;
    const answered = (async () => {
      for (let at = 2; at < 8; at++) {
        const call = await nextCall(calls, at);
        await call.perform();
        call.deliver();
      }
    })();
    answered.catch(() => {});
    const { member } = await inTime("the join", late);
    expect(as("snapshot", member.frames()[0])).toMatchObject({ done: false, job: { run: 2 } });
  }, 15_000);

  test("gives a viewer who drops out meanwhile no share in anything", async () => {
    const inner = memoryStore();
    const { store, calls } = heldStore(inner);
    const publisher = createWorkflowMonitor({ authorize: allowAll, store: inner });
    const { clock, monitor } = start({ store });
    onTestFinished(() => publisher.close());
    await begin(publisher);
    const joining = join(monitor, JOB);
    for (let at = 0; at < 3; at++) {
      const call = await nextCall(calls, at);
      await call.perform();
      call.deliver();
    }
    const { member, seat } = await joining;
    seat.leave(BYE);
    await say(publisher, "next");
    expect(member.types()).toEqual(["snapshot"]);
    expect(monitor.stats().viewers.ws).toBe(0);
    clock.advance(5_000);
    expect(monitor.stats().rooms).toBe(0);
  });

  test("is refused when the monitor closes meanwhile", async () => {
    const inner = memoryStore();
    const { store, calls } = heldStore(inner);
    const { monitor } = start({ store });
    const joining = join(monitor, JOB);
    joining.catch(() => {});
    const call = await nextCall(calls, 0);
    await monitor.drain();
    await call.perform();
    call.deliver();
    await expect(joining).rejects.toMatchObject({ name: "WorkflowMonitorError" });
    await expect(join(monitor, JOB)).rejects.toMatchObject({ code: "draining" });
    expect(monitor.stats()).toMatchObject({ rooms: 0, viewers: { ws: 0 } });
  });

  test("may be tried again when the store failed", async () => {
    const inner = memoryStore();
    let away = false;
    const store: JobStore = {
      ...inner,
      read: (...args) => (away ? Promise.reject(new Error("secret address")) : inner.read(...args)),
    };
    const { monitor } = start({ store });
    await begin(monitor);
    away = true;
    await expect(join(monitor, JOB)).rejects.toMatchObject({
      code: "unavailable",
      message: expect.not.stringContaining("secret"),
    });
    expect(monitor.stats()).toMatchObject({ rooms: 0, viewers: { ws: 0 } });
    away = false;
    const { member } = await join(monitor, JOB);
    expect(member.types()).toEqual(["snapshot"]);
  });
});

describe("announcements", () => {
  /** A room whose announcements go through `announce`; the events that its member was shown. */
  async function watched(announce: (note: Announced, tell: (note: Announced) => void) => void) {
    const clock = new ManualClock();
    const { store, connected } = announcingStore(memoryStore({ clock }), announce);
    const { monitor } = start({ clock, store });
    await begin(monitor);
    const members = [
      await join(monitor, JOB),
      await join(monitor, JOB, { mode: "delta" }),
    ] as const;
    return { clock, monitor, members, connected };
  }

  test("that get lost are made up for by the next one", async () => {
    let count = 0;
    const { monitor, members } = await watched((note, tell) => {
      count += 1;
      if (count % 3 !== 0) tell(note);
    });
    for (const n of range(1, 20)) await say(monitor, `m${n}`);
    await turns();
    for (const { member } of members) {
      expect(revisionsIn(member.frames())).toEqual(range(2, 21));
      expect(messages(member.frames())).toEqual(range(1, 20).map((n) => `m${n}`));
      for (const frame of member.frames(1)) {
        if (frame.type === "snapshot") expect(frame).toMatchObject({ resumed: true, behind: true });
      }
    }
  });

  test("that get lost for good are found by comparing heads", async () => {
    let deaf = false;
    const { clock, monitor, members } = await watched((note, tell) => {
      if (!deaf) tell(note);
    });
    deaf = true;
    for (const n of range(1, 5)) await say(monitor, `m${n}`);
    await turns();
    expect(members[0].member.types()).toEqual(["snapshot"]);
    clock.advance(40_000);
    await turns();
    for (const { member } of members) {
      expect(revisionsIn(member.frames())).toEqual(range(2, 6));
    }
    await say(monitor, "again");
    clock.advance(40_000);
    await turns();
    expect(revisionsIn(members[0].member.frames())).toEqual(range(2, 7));
  });

  test("that come twice, or late, change nothing", async () => {
    const all: Announced[] = [];
    const { monitor, members } = await watched((note, tell) => {
      all.push(note);
      tell(note);
      for (const old of all) tell(old);
    });
    for (const n of range(1, 10)) await say(monitor, `m${n}`);
    await turns();
    for (const { member } of members) {
      expect(member.types()).toEqual(["snapshot", ...range(1, 10).map(() => "update")]);
      expect(revisionsIn(member.frames())).toEqual(range(2, 11));
    }
  });

  test("that come in another order are put right", async () => {
    let kept: Announced[] = [];
    const { monitor, members } = await watched((note, tell) => {
      kept.push(note);
      if (kept.length < 4) return;
      const notes = kept.reverse();
      kept = [];
      for (const one of notes) tell(one);
    });
    for (const n of range(1, 20)) await say(monitor, `m${n}`);
    await turns();
    for (const { member } of members) {
      expect(revisionsIn(member.frames())).toEqual(range(2, 21));
      expect(messages(member.frames())).toEqual(range(1, 20).map((n) => `m${n}`));
    }
  });

  test("that come by chance lead to the same, always", { timeout: 20_000 }, async () => {
    // A small generator of its own, so that a failure can be repeated by its seed.
    for (const seed of range(1, 60)) {
      let state = seed * 2_654_435_761;
      const chance = () => {
        state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
        return (state >>> 0) / 2 ** 32;
      };
      const waiting: Announced[] = [];
      const { clock, monitor, members } = await watched((note, tell) => {
        const luck = chance();
        if (luck < 0.2) return;
        if (luck < 0.4) waiting.push(note);
        else tell(note);
        if (luck > 0.8) tell(note);
        if (luck > 0.6) for (const late of waiting.splice(0)) tell(late);
      });
      let said = 0;
      for (const _ of range(1, 25)) {
        for (const _ of range(1, Math.floor(chance() * 4))) {
          said += 1;
          void say(monitor, `m${said}`);
        }
        for (const { member, seat } of members) {
          member.writable = chance() > 0.3;
          if (chance() > 0.5) seat.resume();
        }
        await turns(Math.floor(chance() * 4));
      }
      await say(monitor, "last");
      clock.advance(40_000);
      await turns();
      for (const { member, seat } of members) {
        member.writable = true;
        seat.resume();
        expect({ seed, revisions: revisionsIn(member.frames()) }).toEqual({
          seed,
          revisions: range(2, said + 2),
        });
        expect(messages(member.frames())).toEqual([...range(1, said).map((n) => `m${n}`), "last"]);
      }
    }
  });

  test("heartbeats are stale while the store is away; once it is back, what was missed is read", async () => {
    let deaf = false;
    const { clock, monitor, members, connected } = await watched((note, tell) => {
      if (!deaf) tell(note);
    });
    const beat = () => {
      clock.advance(1); // one frame a moment
      return JSON.parse(String(monitor.egress.heartbeat(members[0].member.codec))) as object;
    };
    expect("stale" in beat()).toBe(false);
    deaf = true;
    connected(false);
    expect(beat()).toMatchObject({ type: "heartbeat", stale: true });
    await say(monitor, "missed");
    expect(members[0].member.types()).toEqual(["snapshot"]);
    deaf = false;
    connected(true);
    await turns();
    expect("stale" in beat()).toBe(false);
    for (const { member } of members) expect(revisionsIn(member.frames())).toEqual([2]);
    await say(monitor, "live");
    for (const { member } of members) expect(member.types(2)).toEqual(["update"]);
  });

  test("a store that is back but still fails is tried again until it answers", async () => {
    const clock = new ManualClock();
    const inner = memoryStore({ clock });
    let away = false;
    let deaf = false;
    const { store, connected } = announcingStore(inner, (note, tell) => {
      if (!deaf) tell(note);
    });
    const read: JobStore["read"] = (...args) =>
      away ? Promise.reject(new Error("away")) : store.read(...args);
    const { monitor } = start({ clock, store: { ...store, read } });
    await begin(monitor);
    const { member } = await join(monitor, JOB);
    deaf = true;
    await say(monitor, "missed");
    away = true;
    connected(false);
    connected(true);
    await turns();
    expect(member.types()).toEqual(["snapshot"]);
    away = false;
    clock.advance(1_000);
    await turns();
    expect(revisionsIn(member.frames())).toEqual([2]);
  });
});

describe("another life of the log", () => {
  test("is a snapshot for everybody, and resumes nobody", async () => {
    const clock = new ManualClock();
    const former = memoryStore({ clock });
    const next = memoryStore({ clock });
    let current = former;
    const store: JobStore = {
      read: (...args) => current.read(...args),
      append: (...args) => current.append(...args),
      find: (...args) => current.find(...args),
      async follow(jobId, listener) {
        const all = [await former.follow(jobId, listener), await next.follow(jobId, listener)];
        return () => {
          for (const unfollow of all) unfollow();
        };
      },
      close: async () => {},
    };
    const { monitor } = start({ clock, store });
    await begin(monitor);
    const old = await say(monitor, "first life");
    const members = [await join(monitor, JOB), await join(monitor, JOB, { mode: "delta" })];
    const slow = await join(monitor, JOB);
    slow.member.writable = false;
    current = next;
    const cursor = await say(monitor, "second life");
    await turns();
    expect(cursor.epoch).not.toBe(old.epoch);
    expect(cursor.revision).toBe(1);
    slow.member.writable = true;
    slow.seat.resume();
    for (const { member } of [...members, slow]) {
      expect(member.types()).toEqual(["snapshot", "snapshot"]);
      const frame = as("snapshot", member.frames()[1]);
      expect(frame).toMatchObject({
        resumed: false,
        events: [],
        job: { status: "running", message: "second life", epoch: cursor.epoch, revision: 1 },
      });
    }
    await say(monitor, "goes on");
    for (const { member } of [...members, slow]) expect(member.types(2)).toEqual(["update"]);
    const back = await settle(clock, join(monitor, JOB, { after: old }));
    expect(as("snapshot", back.member.frames()[0])).toMatchObject({ resumed: false, events: [] });
  });
});

describe("a job that vanishes", () => {
  function vanishing() {
    const clock = new ManualClock();
    const inner = memoryStore({ clock });
    const state = { gone: false };
    const store: JobStore = {
      ...inner,
      read: async (...args) => (state.gone ? undefined : inner.read(...args)),
    };
    return { ...start({ clock, store }), clock, state };
  }

  test("keeps its viewers for 60 s, then lets them go: 4404", async () => {
    const { clock, monitor, state } = vanishing();
    await begin(monitor);
    const { member } = await join(monitor, JOB);
    state.gone = true;
    clock.advance(40_000); // the room compares its head with the store's
    await turns();
    clock.advance(19_000);
    await turns();
    expect(member.ends).toEqual([]);
    clock.advance(41_000);
    await turns();
    expect(member.types()).toEqual(["snapshot", "error"]);
    expect(as("error", member.frames()[1])).toMatchObject({
      jobId: JOB,
      code: "unknown_job",
      retryable: false,
    });
    expect(member.ends).toMatchObject([{ code: 4404 }]);
    expect(monitor.stats().viewers.ws).toBe(0);
  });

  test("and comes back in time goes on", async () => {
    const { clock, monitor, state } = vanishing();
    await begin(monitor);
    const { member } = await join(monitor, JOB);
    state.gone = true;
    clock.advance(40_000);
    await turns();
    clock.advance(15_000);
    state.gone = false;
    await say(monitor, "back");
    clock.advance(120_000);
    await turns();
    clock.advance(120_000);
    await turns();
    expect(member.ends).toEqual([]);
    expect(revisionsIn(member.frames())).toEqual([2]);
  });

  test("and comes back unheard goes on: the store is asked before anybody is let go", async () => {
    const jitter = vi.spyOn(Math, "random").mockReturnValue(0.9); // looked for every 38.5 s
    onTestFinished(() => jitter.mockRestore());
    const clock = new ManualClock();
    let gone = false;
    const { store } = announcingStore(memoryStore({ clock }), (note, tell) => {
      if (!gone) tell(note);
    });
    const read: JobStore["read"] = async (...args) => (gone ? undefined : store.read(...args));
    const { monitor } = start({ clock, store: { ...store, read } });
    await begin(monitor);
    const { member } = await join(monitor, JOB);
    gone = true;
    const pass = async (seconds: number) => {
      for (const _ of range(1, seconds)) {
        clock.advance(1_000);
        await turns();
      }
    };
    await pass(84); // it was looked for after 77 s: missed for 45 s
    await say(monitor, "back");
    gone = false;
    await pass(60);
    expect(member.ends).toEqual([]);
    expect(revisionsIn(member.frames())).toEqual([2]);
  });

  test("is unknown to those who wait while its viewers are let go", async () => {
    const clock = new ManualClock();
    const inner = memoryStore({ clock });
    let gone = false;
    let answer = Promise.resolve();
    const read: JobStore["read"] = async (...args) => {
      if (!gone) return inner.read(...args);
      await answer;
      return undefined;
    };
    const { monitor } = start({ clock, store: { ...inner, read } });
    await begin(monitor);
    const { member } = await join(monitor, JOB);
    gone = true;
    clock.advance(40_000);
    await turns();
    let deliver = () => {};
    answer = new Promise((resolve) => {
      deliver = resolve;
    });
    clock.advance(60_000);
    const after = { epoch: "aaaaaaaaaaaa", revision: 5 };
    const waiting = refusal(join(monitor, JOB, { after }));
    await turns();
    deliver();
    expect(await waiting).toBe("unknown_job");
    expect(member.ends).toMatchObject([{ code: 4404 }]);
  });

  test("is unknown to those who come after its viewers were let go", async () => {
    const { clock, monitor, state } = vanishing();
    await begin(monitor);
    const { member } = await join(monitor, JOB);
    state.gone = true;
    clock.advance(40_000);
    await turns();
    clock.advance(60_000);
    await turns();
    expect(member.ends).toMatchObject([{ code: 4404 }]);
    expect(await refusal(join(monitor, JOB))).toBe("unknown_job");
  });
});

describe("the end of a job", () => {
  test("is the update, the end and the close, and nothing after", async () => {
    const { monitor } = start();
    await begin(monitor);
    const members = [await join(monitor, JOB), await join(monitor, JOB, { mode: "delta" })];
    await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    await monitor.publish({ type: "job", jobId: JOB, message: "too late" });
    await monitor.publish({ type: "job", jobId: JOB, run: 2, status: "running" });
    await say(monitor, "second run");
    for (const { member, seat } of members) {
      seat.resume();
      expect(member.types()).toEqual(["snapshot", "update", "end"]);
      const [, update, end] = member.frames();
      expect(as("end", end)).toEqual({
        type: "end",
        jobId: JOB,
        cursor: as("update", update).cursor,
        status: "completed",
      });
      expect(member.ends).toEqual([{ code: 1000, reason: expect.any(String) }]);
    }
    expect(monitor.stats().viewers.ws).toBe(0);
  });

  test("that a restart of the same batch undoes is no end", async () => {
    const { monitor } = start();
    await begin(monitor);
    const members = [await join(monitor, JOB), await join(monitor, JOB, { mode: "delta" })];
    void monitor.publish({ type: "job", jobId: JOB, status: "failed" });
    await monitor.publish({ type: "job", jobId: JOB, run: 2, status: "running" });
    for (const { member } of members) {
      expect(member.writes).toHaveLength(2);
      expect(member.types()).toEqual(["snapshot", "update", "update"]);
      expect(member.ends).toEqual([]);
    }
    await say(monitor, "goes on");
    for (const { member } of members) expect(revisionsIn(member.frames())).toEqual([2, 3, 4]);
  });

  test("with events behind it in the same batch comes after the terminal revision", async () => {
    const { monitor } = start();
    await begin(monitor);
    const { member } = await join(monitor, JOB);
    void say(monitor, "before");
    void monitor.publish({ type: "job", jobId: JOB, status: "cancelled" });
    await monitor.publish({ type: "stage", jobId: JOB, stage: "a", status: "running" });
    expect(member.types()).toEqual(["snapshot", "update", "update", "end"]);
    expect(as("end", member.frames().at(-1)).status).toBe("cancelled");
  });

  test("does not keep a room that nobody can be served from: the next run has its own", async () => {
    const { monitor } = start();
    await monitor.publish({ type: "job", jobId: JOB, status: "failed" });
    const stuck = new FakeMember();
    stuck.writable = false;
    const seat = await monitor.egress.join(watchRequest(JOB), stuck, null);
    await monitor.publish({ type: "job", jobId: JOB, run: 2, status: "running" });
    const { member } = await join(monitor, JOB);
    expect(as("snapshot", member.frames()[0])).toMatchObject({ done: false, job: { run: 2 } });
    await say(monitor, "live");
    expect(member.types()).toEqual(["snapshot", "update"]);
    seat.leave(BYE);
  });

  test("is not the last that a member hears who could not take it: it is told when the node goes", async () => {
    const { clock, monitor } = start();
    await monitor.publish({ type: "job", jobId: JOB, status: "failed" });
    const stuck = new FakeMember();
    stuck.writable = false;
    await monitor.egress.join(watchRequest(JOB), stuck, null);
    expect(monitor.stats()).toMatchObject({ rooms: 1, parked: 1, viewers: { ws: 1 } });
    await settle(clock, monitor.drain());
    expect(stuck.types()).toEqual(["error"]);
    expect(stuck.ends).toMatchObject([{ code: 1012 }]);
    expect(monitor.stats()).toMatchObject({ rooms: 0, parked: 0, viewers: { ws: 0 } });
  });
});

describe("a member that breaks its promise", () => {
  test("and throws does not disturb the others", async () => {
    const { monitor } = start();
    await begin(monitor);
    const before = await join(monitor, JOB);
    const bad = await join(monitor, JOB);
    const after = await join(monitor, JOB);
    bad.member.write = () => {
      throw new Error("broken");
    };
    await say(monitor, "one");
    await say(monitor, "two");
    for (const { member } of [before, after]) {
      expect(revisionsIn(member.frames())).toEqual([2, 3]);
      expect(member.ends).toEqual([]);
    }
    await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    for (const { member } of [before, after]) {
      expect(member.types().at(-1)).toBe("end");
      expect(member.ends).toMatchObject([{ code: 1000 }]);
    }
  });
});

describe("present that throws for a revision", () => {
  test("in the middle of a batch does not make a later viewer see events twice", async () => {
    const { monitor } = start({
      present: (job) => {
        if (job.message === "bad") throw new Error("of the host");
        return { message: job.message, no: job.revision };
      },
    });
    await begin(monitor);
    const first = await join(monitor, JOB);
    void say(monitor, "bad");
    await say(monitor, "good");
    expect(first.member.ends).toMatchObject([{ code: 1011 }]);

    const { member, seat } = await join(monitor, JOB);
    member.writable = false;
    await say(monitor, "next");
    member.writable = true;
    seat.resume();
    expect(revisionsIn(member.frames())).toEqual([4]);
  });
});

describe("a cursor ahead of the room", () => {
  test("makes it read, once for all and at most once a second", async () => {
    const clock = new ManualClock();
    const inner = memoryStore({ clock });
    let reads = 0;
    let deaf = false;
    const { store } = announcingStore(inner, (note, tell) => {
      if (!deaf) tell(note);
    });
    const read: JobStore["read"] = (...args) => {
      reads += 1;
      return store.read(...args);
    };
    const { monitor } = start({ clock, store: { ...store, read } });
    await begin(monitor);
    const { member } = await join(monitor, JOB);
    deaf = true;
    const after = await say(monitor, "known elsewhere");
    reads = 0;
    clock.advance(1_000);
    const back = await Promise.all(range(1, 50).map(() => join(monitor, JOB, { after })));
    expect(reads).toBe(1);
    for (const one of back) {
      expect(as("snapshot", one.member.frames()[0])).toMatchObject({ resumed: true, events: [] });
    }
    expect(revisionsIn(member.frames())).toEqual([2]);

    const ahead = { epoch: after.epoch, revision: 99 };
    const foreign = range(1, 50).map(() => join(monitor, JOB, { after: ahead }));
    await turns();
    expect(reads).toBe(1);
    clock.advance(1_000);
    for (const { member } of await Promise.all(foreign)) {
      expect(as("snapshot", member.frames()[0])).toMatchObject({ resumed: false, events: [] });
    }
    expect(reads).toBe(2);
  });

  test("is not told that the store is away, however shortly after another it comes", async () => {
    for (const microtasks of range(0, 20)) {
      const { clock, monitor } = start();
      const { epoch } = await begin(monitor);
      await join(monitor, JOB);
      const after = { epoch, revision: 9 };
      const first = join(monitor, JOB, { after });
      for (const _ of range(1, microtasks)) await Promise.resolve();
      const second = join(monitor, JOB, { after });
      for (const { member } of await settle(clock, Promise.all([first, second]))) {
        expect(as("snapshot", member.frames()[0])).toMatchObject({ resumed: false });
      }
    }
  });

  test("is not sent back when the store has lost the log: unavailable, until there is another", async () => {
    const clock = new ManualClock();
    const inner = memoryStore({ clock });
    let deaf = false;
    let gone = false;
    const { store } = announcingStore(inner, (note, tell) => {
      if (!deaf) tell(note);
    });
    const read: JobStore["read"] = async (...args) => (gone ? undefined : store.read(...args));
    const { monitor } = start({ clock, store: { ...store, read } });
    await begin(monitor);
    const { member } = await join(monitor, JOB);
    deaf = true;
    const after = await say(monitor, "known elsewhere");
    gone = true;
    expect(await refusal(settle(clock, join(monitor, JOB, { after })))).toBe("unavailable");
    // Whoever brings less than the room has, or something else, is served: it may be all there will ever be.
    const foreign = { epoch: "aaaaaaaaaaaa", revision: 5 };
    const other = await settle(clock, join(monitor, JOB, { after: foreign }));
    expect(as("snapshot", other.member.frames()[0])).toMatchObject({ resumed: false });
    gone = false;
    const back = await settle(clock, join(monitor, JOB, { after }));
    expect(as("snapshot", back.member.frames()[0])).toMatchObject({ resumed: true, events: [] });
    expect(revisionsIn(member.frames())).toEqual([2]);
  });

  test("leaves no timer behind when the node closes before it is looked for", async () => {
    const clock = new ManualClock();
    const { monitor } = start({ clock, store: memoryStore() });
    const { epoch } = await begin(monitor);
    await join(monitor, JOB);
    const after = { epoch, revision: 9 };
    await join(monitor, JOB, { after });
    const waiting = refusal(join(monitor, JOB, { after })); // at most once a second
    await turns();
    await monitor.close();
    expect(await waiting).toBe("draining");
    expect(clock.timers).toBe(0);
  });
});
