import { EventEmitter } from "node:events";
import {
  type Answering,
  allowAll,
  createWorkflowMonitor,
  type EndReason,
  type Frame,
  type Member,
  type Outbox,
  type Seat,
  type Sink,
  type WorkflowMonitor,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { lateClock, ManualClock, settle } from "../support/clock.js";
import { as, range, revisionsIn } from "../support/frames.js";
import { createCodec, watchRequest } from "../support/member.js";

const KIB = 1024;
const MIB = 1024 * KIB;
const lines = createCodec();

interface SinkOptions {
  /** Bytes that leave at once, as long as nothing waits before them. */
  takes?: number;
  /** `writableLength` tells only of whole writes, as that of a socket does. */
  wholeWrites?: boolean;
}

/** A socket in memory: what is written stays in flight until the test lets it leave. */
class FakeSink implements Sink {
  readonly writableHighWaterMark = 16 * KIB;
  readonly #options: Required<SinkOptions>;
  /** Sizes of the writes that have not left. */
  readonly #waiting: number[] = [];
  /** Bytes of the first of them that have. */
  #gone = 0;
  #needsDrain = false;
  #listeners: (() => void)[] = [];

  constructor({ takes = 0, wholeWrites = false }: SinkOptions = {}) {
    this.#options = { takes, wholeWrites };
  }

  get writableLength(): number {
    const all = this.#waiting.reduce((sum, size) => sum + size, 0);
    return this.#options.wholeWrites ? all : all - this.#gone;
  }

  /** Listeners for `drain`. */
  get listeners(): number {
    return this.#listeners.length;
  }

  write(bytes: Uint8Array): boolean {
    const left = this.#waiting.length === 0 ? this.#options.takes : 0;
    if (bytes.length > left) this.#waiting.push(bytes.length - left);
    const taken = this.writableLength < this.writableHighWaterMark;
    this.#needsDrain ||= !taken;
    return taken;
  }

  cork(): void {}
  uncork(): void {}

  once(_event: "drain", listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** So many bytes leave; then it says that it has drained, if it has and somebody waits for that. */
  leave(bytes = Number.POSITIVE_INFINITY): void {
    this.#gone += bytes;
    while (this.#waiting[0] !== undefined && this.#waiting[0] <= this.#gone) {
      this.#gone -= this.#waiting.shift() as number;
    }
    if (this.#waiting.length > 0) return;
    this.#gone = 0;
    if (!this.#needsDrain) return;
    this.#needsDrain = false;
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) listener();
  }
}

interface Connection {
  readonly sink: FakeSink;
  readonly outbox: Outbox;
  /** Why it was given up, each time. */
  readonly ends: EndReason[];
}

/** A connection that keeps the rule of its owner: given up, it closes its outbox. */
function connect(monitor: WorkflowMonitor, options?: SinkOptions): Connection {
  const sink = new FakeSink(options);
  const ends: EndReason[] = [];
  const outbox = monitor.egress.outbox(sink, {
    giveUp(reason) {
      ends.push(reason);
      outbox.close();
    },
  });
  return { sink, outbox, ends };
}

/** One job on a connection. */
class Wired implements Member {
  readonly codec = lines;
  readonly mode = "full";
  readonly writes: Frame[][] = [];
  readonly #outbox: Outbox;
  readonly #log: string[] | undefined;

  constructor(outbox: Outbox, log?: string[]) {
    this.#outbox = outbox;
    this.#log = log;
  }

  get writable(): boolean {
    return this.#outbox.writable;
  }

  write(parts: readonly Uint8Array[]): void {
    const text = Buffer.concat(parts).toString();
    const frames = text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Frame);
    this.writes.push(frames);
    for (const frame of frames) if ("jobId" in frame) this.#log?.push(frame.jobId as string);
    this.#outbox.write(parts);
  }

  end(): void {}
}

async function watch(
  monitor: WorkflowMonitor,
  { outbox }: Connection,
  jobId: string,
  log?: string[],
): Promise<{ member: Wired; seat: Seat }> {
  const member = new Wired(outbox, log);
  const seat = await monitor.egress.join(watchRequest(jobId), member, null);
  outbox.add(seat);
  return { member, seat };
}

/** A monitor on a clock of its own, closed at the end of the test. */
function start(options: Partial<WorkflowMonitorOptions> = {}) {
  const manual = new ManualClock();
  const stalled = { by: 0 };
  // While a process stands still time goes on, but no timer is called.
  const clock = lateClock(manual, stalled);
  const monitor = createWorkflowMonitor({ authorize: allowAll, clock, ...options });
  onTestFinished(async () => {
    await settle(manual, monitor.close());
  });
  return {
    monitor,
    clock: manual,
    /** Our own event loop stands still for so long. */
    standStill(ms: number) {
      stalled.by += ms;
    },
  };
}

/** An event of 15 KB, which is in the job's snapshot, too. */
const say = (monitor: WorkflowMonitor, jobId: string, n: number) =>
  monitor.publish({ type: "job", jobId, message: `${n}`, metadata: { text: "x".repeat(15_000) } });

const frame = (bytes: number): [Buffer] => [Buffer.allocUnsafeSlow(bytes)];

describe("[D2] a connection that is full", () => {
  test("[D2] has inFlightBytes in flight, and is no longer full when it has drained", () => {
    const { monitor } = start({ limits: { inFlightBytes: 100 * KIB } });
    const { outbox, sink } = connect(monitor);
    outbox.write(frame(60 * KIB));
    expect(outbox.writable).toBe(true);
    outbox.write(frame(40 * KIB - 1));
    expect(outbox.writable).toBe(true);
    outbox.write(frame(1));
    expect(outbox.writable).toBe(false);
    expect(sink.listeners).toBe(1);
    sink.leave();
    expect(outbox.writable).toBe(true);
  });

  test("[D2] parks its member, which gets one snapshot frame a drain, and then updates", async () => {
    const { monitor } = start();
    await say(monitor, "job", 0);
    const connection = connect(monitor);
    const { member } = await watch(monitor, connection, "job");
    let n = 0;
    while (monitor.stats().parked === 0) {
      n += 1;
      await say(monitor, "job", n);
    }
    expect(connection.sink.writableLength).toBeGreaterThanOrEqual(64 * KIB);
    const before = member.writes.length;
    for (const _ of range(1, 10)) {
      n += 1;
      await say(monitor, "job", n);
    }
    expect(member.writes).toHaveLength(before);
    connection.sink.leave();
    expect(member.writes).toHaveLength(before + 1);
    const [caughtUp] = member.writes[before] as Frame[];
    expect(as("snapshot", caughtUp)).toMatchObject({ behind: true, resumed: true });
    expect(monitor.stats().parked).toBe(0);

    // That frame alone was large: the next drain brings the next one, and not more.
    expect(connection.outbox.writable).toBe(false);
    for (const _ of range(1, 3)) {
      n += 1;
      await say(monitor, "job", n);
    }
    connection.sink.leave();
    expect(member.writes).toHaveLength(before + 2);
    connection.sink.leave();
    expect(member.writes).toHaveLength(before + 2);
    n += 1;
    await say(monitor, "job", n);
    expect(member.writes.at(-1)?.map(({ type }) => type)).toEqual(["update"]);
    expect(revisionsIn(member.writes.flat())).toEqual(range(2, n + 1));
  });

  test("[D2] takes no notice of a drain that nobody waits for", async () => {
    const { monitor } = start();
    await say(monitor, "job", 0);
    const connection = connect(monitor);
    const { member } = await watch(monitor, connection, "job");
    for (const _ of range(1, 3)) connection.sink.leave();
    expect(member.writes.flat().map(({ type }) => type)).toEqual(["snapshot"]);
  });

  test("[D2] serves a member that joined while it was full, once it has drained", async () => {
    const { monitor } = start();
    await say(monitor, "job", 0);
    const connection = connect(monitor);
    connection.outbox.write(frame(100 * KIB));
    const { member } = await watch(monitor, connection, "job");
    expect(member.writes).toHaveLength(0);
    connection.sink.leave();
    expect(member.writes.flat().map(({ type }) => type)).toEqual(["snapshot"]);
  });

  test("[D2] serves a member when it drained between the join and the member's place on it", async () => {
    const { monitor } = start();
    await say(monitor, "job", 0);
    const { outbox, sink } = connect(monitor);
    outbox.write(frame(100 * KIB));
    const member = new Wired(outbox);
    const seat = await monitor.egress.join(watchRequest("job"), member, null);
    sink.leave();
    expect(member.writes).toHaveLength(0);
    outbox.add(seat);
    expect(member.writes.flat().map(({ type }) => type)).toEqual(["snapshot"]);
  });

  test("[D2] serves its member although others filled it: a protocol's own frames", async () => {
    const { monitor } = start({ limits: { inFlightBytes: 1 } });
    await say(monitor, "job", 0);
    const connection = connect(monitor);
    const { member } = await watch(monitor, connection, "job");
    connection.sink.leave();
    connection.outbox.write(frame(16 * KIB - 1)); // the sink does not mind this much
    connection.sink.write(Buffer.alloc(125)); // a pong
    await say(monitor, "job", 1);
    expect(monitor.stats().parked).toBe(1);
    connection.sink.leave();
    expect(monitor.stats().parked).toBe(0);
    expect(revisionsIn(member.writes.flat())).toEqual([2]);
  });
});

describe("[D2] many jobs on one connection", () => {
  test("[D2] are served in turn, one large frame a drain: a busy one does not starve the others", async () => {
    const { monitor } = start();
    const jobs = ["busy", "calm", "slow"];
    for (const jobId of jobs) await say(monitor, jobId, 0);
    const connection = connect(monitor);
    const log: string[] = [];
    for (const jobId of jobs) {
      await watch(monitor, connection, jobId, log);
      connection.sink.leave();
    }
    log.length = 0;
    connection.outbox.write(frame(64 * KIB));
    let n = 0;
    const burst = async (jobId: string) => {
      for (const _ of range(1, 5)) {
        n += 1;
        await say(monitor, jobId, n);
      }
    };
    for (const jobId of jobs) await burst(jobId);
    expect(log).toEqual([]);

    const served: string[][] = [];
    for (const _ of range(1, 9)) {
      connection.sink.leave();
      served.push(log.splice(0));
      await burst("busy");
      if (served.length === 3) for (const jobId of ["calm", "slow"]) await burst(jobId);
    }
    for (const drain of served.slice(0, 6)) expect(drain).toHaveLength(1);
    expect(new Set(served.slice(0, 3).flat())).toEqual(new Set(jobs));
    expect(new Set(served.slice(3, 6).flat())).toEqual(new Set(jobs));
    expect(served.slice(6)).toEqual([["busy"], ["busy"], ["busy"]]);
  });

  test("[D2] share a drain when their frames are small", async () => {
    const { monitor } = start();
    const jobs = range(1, 10).map((n) => `job ${n}`);
    for (const jobId of jobs) await monitor.publish({ type: "job", jobId, status: "running" });
    const connection = connect(monitor);
    const log: string[] = [];
    for (const jobId of jobs) await watch(monitor, connection, jobId, log);
    connection.outbox.write(frame(100 * KIB));
    log.length = 0;
    for (const jobId of jobs) await monitor.publish({ type: "job", jobId, message: "news" });
    expect(log).toEqual([]);
    connection.sink.leave();
    expect(new Set(log)).toEqual(new Set(jobs));
    expect(log).toHaveLength(jobs.length);
  });
});

/** In milliseconds: what SPEC D3 gives so many bytes. */
const allowed = (bytes: number, stallTimeoutMs = 30_000) => stallTimeoutMs + bytes / 16.384;

describe("[D3] a frame that does not leave", () => {
  test.each([1, 64 * KIB, MIB, 5 * MIB])(
    "[D3] ends its connection after stallTimeoutMs and a second for every 16 KiB: %i bytes",
    (bytes) => {
      const { clock, monitor } = start();
      const { outbox, ends } = connect(monitor);
      outbox.write(frame(bytes));
      clock.advance(Math.floor(allowed(bytes)) - 1);
      expect(ends).toEqual([]);
      clock.advance(1_002);
      expect(ends).toEqual([{ code: 4000, reason: expect.any(String) }]);
      expect(monitor.stats().pinnedBytes).toBe(0);
    },
  );

  test("[D3] is given no more time by the frames behind it", () => {
    const { clock, monitor } = start();
    const { outbox, ends } = connect(monitor);
    for (const second of range(0, 29)) {
      expect(ends, `after ${second} s`).toEqual([]);
      outbox.write(frame(KIB));
      clock.advance(1_000);
    }
    clock.advance(2_000);
    expect(ends).toHaveLength(1);
  });

  test.each([
    ["bytes", false],
    ["whole writes", true],
  ])(
    "[D3] in time, but slower than the updates come, ends nothing: the line tells of %s",
    (_, wholeWrites) => {
      const { clock, monitor } = start();
      const { outbox, sink, ends } = connect(monitor, { wholeWrites });
      let written = 0;
      for (const _ of range(1, 6_000)) {
        while (outbox.writable) {
          outbox.write(frame(20 * KIB));
          written += 1;
        }
        sink.leave(1.7 * KIB);
        clock.advance(100);
      }
      expect(ends).toEqual([]);
      expect(written).toBeGreaterThan(500);
    },
  );

  test.each([
    ["of 1 KiB", KIB],
    ["of 20 KiB", 20 * KIB],
    ["of 200 KiB", 200 * KIB],
  ])("[D3] because 1 KB a second is read, for ever, ends the connection: frames %s", (_, bytes) => {
    const { clock, monitor } = start();
    const { outbox, sink, ends } = connect(monitor);
    for (let second = 0; second < 300 && ends.length === 0; second++) {
      while (outbox.writable) outbox.write(frame(bytes));
      sink.leave(1_000);
      clock.advance(1_000);
    }
    expect(ends).toMatchObject([{ code: 4000 }]);
  });

  test.each([false, true])(
    "[D3] a first snapshot of 5 MB arrives over a line of 20 KiB/s: whole writes %s",
    async (wholeWrites) => {
      const text = "x".repeat(5_000_000);
      const { clock, monitor } = start({ present: () => text });
      await monitor.publish({ type: "job", jobId: "job", status: "running" });
      const connection = connect(monitor, { wholeWrites });
      const { member } = await watch(monitor, connection, "job");
      for (let second = 1; second <= 500; second++) {
        connection.sink.leave(20 * KIB);
        clock.advance(1_000);
        if (second % 10 === 0) await say(monitor, "job", second);
      }
      expect(connection.ends).toEqual([]);
      // Each next one is as large again, and is given as much time again.
      const sent = ["snapshot", "snapshot", "snapshot"];
      expect(member.writes.map(([first]) => first?.type)).toEqual(sent);
    },
  );

  test("[D3] costs no timer when nothing is in flight", () => {
    const { clock, monitor } = start();
    const before = clock.timers;
    const [drained, closed, given] = [connect(monitor), connect(monitor), connect(monitor)];
    for (const { outbox } of [drained, closed, given]) outbox.write(frame(100 * KIB));
    expect(clock.timers).toBe(before + 1);
    drained.sink.leave();
    closed.outbox.close();
    expect(clock.timers).toBe(before + 1);
    clock.advance(60_000);
    expect(given.ends).toHaveLength(1);
    expect(clock.timers).toBe(before);

    // A small one leaves without a word.
    drained.outbox.write(frame(KIB));
    expect(clock.timers).toBe(before + 1);
    drained.sink.leave();
    clock.advance(1_000);
    expect(clock.timers).toBe(before);
    expect(monitor.stats().pinnedBytes).toBe(0);
  });

  test("[D3] costs no timer when the kernel takes it at once", () => {
    const { clock, monitor } = start();
    const before = clock.timers;
    const { outbox } = connect(monitor, { takes: MIB });
    outbox.write(frame(100 * KIB));
    expect(clock.timers).toBe(before);
    expect(monitor.stats().pinnedBytes).toBe(0);
  });
});

describe("[D3] while our own event loop stands still", () => {
  test("[D3] no connection runs out of time, and afterwards each has what it had left", () => {
    const { clock, monitor, standStill } = start();
    const all = range(1, 20).map(() => connect(monitor));
    for (const { outbox } of all) outbox.write(frame(1));
    clock.advance(20_000);
    standStill(60_000);
    clock.advance(1_000);
    clock.advance(8_000);
    for (const { ends } of all) expect(ends).toEqual([]);
    clock.advance(3_000);
    for (const { ends } of all) expect(ends).toMatchObject([{ code: 4000 }]);
  });

  test("[D3] again and again, a line that moves in between is kept", () => {
    const { clock, monitor, standStill } = start();
    const { outbox, sink, ends } = connect(monitor);
    for (const _ of range(1, 50)) {
      while (outbox.writable) outbox.write(frame(30 * KIB));
      standStill(60_000);
      clock.advance(1_000);
      sink.leave(20 * KIB);
      clock.advance(1_000);
    }
    expect(ends).toEqual([]);
  });
});

/** A response in memory. */
class FakeResponse extends EventEmitter implements Answering {
  destroyed = false;
  writableLength = 0;

  destroy(): void {
    this.destroyed = true;
    this.emit("close");
  }
}

describe("[D3] an answer that is never read", () => {
  test("[D3] is destroyed when its time is over, and lets go of its bytes", () => {
    const { clock, monitor } = start();
    const before = clock.timers;
    const response = new FakeResponse();
    const bytes = Buffer.allocUnsafeSlow(MIB);
    monitor.egress.answering(response, bytes);
    expect(monitor.stats().pinnedBytes).toBe(MIB);
    clock.advance(Math.floor(allowed(MIB)) - 1);
    expect(response.destroyed).toBe(false);
    clock.advance(1_002);
    expect(response.destroyed).toBe(true);
    expect(monitor.stats().pinnedBytes).toBe(0);
    expect(clock.timers).toBe(before);
  });

  test("[D3] one that is read in time is left alone", () => {
    const { clock, monitor } = start();
    const before = clock.timers;
    const response = new FakeResponse();
    monitor.egress.answering(response, Buffer.allocUnsafeSlow(MIB));
    clock.advance(60_000);
    response.emit("close");
    expect(monitor.stats().pinnedBytes).toBe(0);
    expect(clock.timers).toBe(before);
    clock.advance(600_000);
    expect(response.destroyed).toBe(false);
  });

  test("[D3] a small one is looked after when it is stuck behind others, else let go at once", () => {
    const { clock, monitor } = start();
    const bytes = Buffer.allocUnsafeSlow(KIB);
    monitor.egress.answering(new FakeResponse(), bytes);
    expect(monitor.stats().pinnedBytes).toBe(0);
    const stuck = new FakeResponse();
    stuck.writableLength = KIB + 200;
    monitor.egress.answering(stuck, bytes);
    expect(monitor.stats().pinnedBytes).toBe(KIB);
    clock.advance(32_000);
    expect(stuck.destroyed).toBe(true);
    expect(monitor.stats().pinnedBytes).toBe(0);
  });

  test("[D3] one whose client was gone before it was given holds nothing", () => {
    const { clock, monitor } = start();
    const before = clock.timers;
    const response = new FakeResponse();
    response.destroy();
    monitor.egress.answering(response, Buffer.allocUnsafeSlow(MIB));
    expect(monitor.stats().pinnedBytes).toBe(0);
    expect(clock.timers).toBe(before);
  });
});

/** What was planned for this turn is done. */
const afterThisTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("[D4] the memory of frames in flight", () => {
  test("[D4] counts what frames share once, until the last of them has left", () => {
    const { monitor } = start();
    const [one, two, three] = [connect(monitor), connect(monitor), connect(monitor)];
    const [shared] = frame(MIB);
    const own = frame(100 * KIB);
    one.outbox.write([...own, shared.subarray(0, 500 * KIB)]);
    two.outbox.write([shared]);
    three.outbox.write([shared.subarray(10), shared.subarray(20)]);
    expect(monitor.stats().pinnedBytes).toBe(MIB + 100 * KIB);
    one.sink.leave();
    expect(monitor.stats().pinnedBytes).toBe(MIB);
    two.outbox.close();
    expect(monitor.stats().pinnedBytes).toBe(MIB);
    two.outbox.close();
    three.sink.leave();
    expect(monitor.stats().pinnedBytes).toBe(0);
  });

  test("[D4] over pinnedBytes ends who waits longest, and no more than need be", async () => {
    // An eighth of the limit is left to what allocators take.
    const { clock, monitor } = start({ limits: { pinnedBytes: (3 * MIB * 8) / 7 } });
    const [a, b, c, d] = [
      connect(monitor),
      connect(monitor),
      connect(monitor),
      connect(monitor),
    ] as const;
    for (const { outbox } of [a, b, c]) {
      outbox.write(frame(MIB));
      clock.advance(1_000);
    }
    // The first one is read: now another waits longest.
    a.sink.leave();
    a.outbox.write(frame(MIB));
    await afterThisTurn();
    for (const { ends } of [a, b, c]) expect(ends).toEqual([]);

    d.outbox.write(frame(MIB));
    await afterThisTurn();
    expect(b.ends).toEqual([{ code: 4000, reason: expect.any(String) }]);
    for (const { ends } of [a, c, d]) expect(ends).toEqual([]);
    expect(monitor.stats().pinnedBytes).toBe(3 * MIB);

    d.outbox.write(frame(2 * MIB)); // both of the others are needed
    await afterThisTurn();
    expect(c.ends).toHaveLength(1);
    expect(a.ends).toHaveLength(1);
    expect(d.ends).toEqual([]);
    expect(monitor.stats().pinnedBytes).toBe(3 * MIB);
  });

  test("[D4] over pinnedBytes spares who makes headway, though never up to the end", async () => {
    const { clock, monitor } = start({ limits: { pinnedBytes: 3 * MIB } });
    const [busy, idle] = [connect(monitor), connect(monitor)] as const;
    busy.outbox.write(frame(100 * KIB));
    busy.outbox.write(frame(MIB));
    clock.advance(1_000);
    idle.outbox.write(frame(MIB));
    busy.sink.leave(100 * KIB);
    clock.advance(1_000);
    busy.outbox.write(frame(MIB));
    busy.outbox.write(frame(KIB));
    await afterThisTurn();
    expect(idle.ends).toHaveLength(1);
    expect(busy.ends).toEqual([]);
  });

  test("[D4] is let go of when the next write goes through at once", () => {
    const { monitor } = start();
    const { outbox, sink } = connect(monitor, { takes: KIB });
    outbox.write(frame(2 * KIB));
    expect(monitor.stats().pinnedBytes).toBe(2 * KIB);
    sink.leave();
    outbox.write(frame(KIB));
    expect(monitor.stats().pinnedBytes).toBe(0);
  });

  test("[D4] of an answer that was ended is let go of once: others have it, too", () => {
    const { clock, monitor } = start();
    const [first, second] = [new FakeResponse(), new FakeResponse()];
    const bytes = Buffer.allocUnsafeSlow(MIB);
    monitor.egress.answering(first, bytes);
    clock.advance(10_000);
    monitor.egress.answering(second, bytes);
    clock.advance(Math.ceil(allowed(MIB)) - 9_000);
    expect([first.destroyed, second.destroyed]).toEqual([true, false]);
    expect(monitor.stats().pinnedBytes).toBe(MIB);
    second.emit("close");
    expect(monitor.stats().pinnedBytes).toBe(0);
  });

  test("[D4] over pinnedBytes ends nobody for what has left already", async () => {
    const { monitor } = start({ limits: { pinnedBytes: 100 * KIB } });
    const all = range(1, 50).map(() => connect(monitor));
    for (const { outbox, sink } of all) {
      outbox.write(frame(10 * KIB));
      sink.leave(); // too little for the sink to say so
    }
    await afterThisTurn();
    for (const { ends } of all) expect(ends).toEqual([]);
    expect(monitor.stats().pinnedBytes).toBe(0);
  });

  test("[D4] over pinnedBytes ends answers, too", async () => {
    const { monitor } = start({ limits: { pinnedBytes: MIB } });
    const [first, second] = [new FakeResponse(), new FakeResponse()];
    monitor.egress.answering(first, Buffer.allocUnsafeSlow(600 * KIB));
    monitor.egress.answering(second, Buffer.allocUnsafeSlow(600 * KIB));
    await afterThisTurn();
    expect(first.destroyed).toBe(true);
    expect(second.destroyed).toBe(false);
    expect(monitor.stats().pinnedBytes).toBe(600 * KIB);
  });

  test("[D4] over pinnedBytes by one frame alone ends its connection", async () => {
    const { monitor } = start({ limits: { pinnedBytes: MIB } });
    const { outbox, ends } = connect(monitor);
    outbox.write(frame(2 * MIB));
    await afterThisTurn();
    expect(ends).toHaveLength(1);
    expect(monitor.stats().pinnedBytes).toBe(0);
  });
});

describe("[D4] whatever is written, leaves and is closed", () => {
  const CONNECTIONS = 4;
  const at = fc.nat(CONNECTIONS - 1);
  /** Of frames: each part is one of a few shared buffers, or one of its own. */
  const parts = fc.array(
    fc.oneof(
      fc.record({ shared: fc.nat(3), from: fc.nat(10 * KIB) }),
      fc.record({ own: fc.integer({ min: 1, max: 100 * KIB }) }),
    ),
    { minLength: 1, maxLength: 4 },
  );
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ write: parts, at }) },
    { weight: 3, arbitrary: fc.record({ leave: fc.integer({ min: 1, max: 200 * KIB }), at }) },
    { weight: 2, arbitrary: fc.record({ drain: fc.constant(true), at }) },
    { weight: 1, arbitrary: fc.record({ close: fc.constant(true), at }) },
    { weight: 2, arbitrary: fc.record({ pass: fc.integer({ min: 1, max: 2_500 }) }) },
  );
  type Part = { shared: number; from: number } | { own: number };

  /** What a connection holds, worked out from what has left. */
  class Model {
    #frames: { parts: Buffer[]; left: number }[] = [];

    write(parts: Buffer[]): void {
      this.#frames.push({ parts, left: parts.reduce((sum, part) => sum + part.length, 0) });
    }

    leave(bytes: number): void {
      let rest = bytes;
      for (const one of this.#frames) {
        const gone = Math.min(one.left, rest);
        one.left -= gone;
        rest -= gone;
      }
      this.#frames = this.#frames.filter(({ left }) => left > 0);
    }

    get buffers(): ArrayBufferLike[] {
      return this.#frames.flatMap(({ parts }) => parts.map(({ buffer }) => buffer));
    }
  }

  const sizeOf = (models: Model[]) => {
    const buffers = new Set(models.flatMap((model) => model.buffers));
    return [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0);
  };

  test("[D4] pinnedBytes is what the frames in flight hold", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const clock = new ManualClock();
        const timers = clock.timers;
        // Nobody is given up here.
        const monitor = createWorkflowMonitor({
          authorize: allowAll,
          clock,
          stallTimeoutMs: 2 ** 30,
          limits: { pinnedBytes: 2 ** 40 },
        });
        const pool = range(0, 3).map(() => Buffer.allocUnsafeSlow(50 * KIB));
        const make = (part: Part) =>
          "own" in part
            ? Buffer.allocUnsafeSlow(part.own)
            : (pool[part.shared] as Buffer).subarray(part.from);
        const fresh = () => ({ ...connect(monitor), model: new Model() });
        const all = range(1, CONNECTIONS).map(fresh);
        const expected = () => sizeOf(all.map(({ model }) => model));
        for (const one of steps) {
          if ("pass" in one) {
            clock.advance(one.pass);
            continue;
          }
          const { outbox, sink, model } = all[one.at] as ReturnType<typeof fresh>;
          if ("write" in one) {
            const bytes = one.write.map(make);
            outbox.write(bytes);
            model.write(bytes);
          } else if ("leave" in one) {
            model.leave(one.leave);
            sink.leave(one.leave);
          } else if ("drain" in one) {
            model.leave(Number.POSITIVE_INFINITY);
            sink.leave();
          } else {
            outbox.close();
            all[one.at] = fresh();
          }
          // What leaves without a word is noticed within a second.
          expect(monitor.stats().pinnedBytes).toBeGreaterThanOrEqual(expected());
        }
        clock.advance(1_000);
        expect(monitor.stats().pinnedBytes).toBe(expected());
        // At last, all of it leaves.
        for (const { sink } of all.slice(0, 2)) sink.leave();
        for (const { outbox } of all.slice(2)) outbox.close();
        clock.advance(1_000);
        expect(monitor.stats().pinnedBytes).toBe(0);
        expect(clock.timers).toBe(timers);
      }),
      { numRuns: 300 },
    );
  });

  test("[D4] after each turn it is within the limit, and who is ended is ended once", async () => {
    const LIMIT = 300 * KIB;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const clock = new ManualClock();
        const monitor = createWorkflowMonitor({
          authorize: allowAll,
          clock,
          limits: { pinnedBytes: LIMIT },
        });
        const pool = range(0, 3).map(() => Buffer.allocUnsafeSlow(50 * KIB));
        const all = range(1, CONNECTIONS).map(() => connect(monitor));
        for (const one of steps) {
          if ("pass" in one) {
            clock.advance(one.pass);
            continue;
          }
          let connection = all[one.at] as Connection;
          if (connection.ends.length > 0) {
            connection = connect(monitor);
            all[one.at] = connection;
          }
          if ("write" in one) {
            connection.outbox.write(
              one.write.map((part) =>
                "own" in part
                  ? Buffer.allocUnsafeSlow(part.own)
                  : (pool[part.shared] as Buffer).subarray(part.from),
              ),
            );
          } else if ("leave" in one) connection.sink.leave(one.leave);
          else if ("drain" in one) connection.sink.leave();
          else connection.outbox.close();
          await Promise.resolve();
          expect(monitor.stats().pinnedBytes).toBeLessThanOrEqual(LIMIT);
          for (const { ends } of all) expect(ends.length).toBeLessThanOrEqual(1);
        }
      }),
      { numRuns: 100 },
    );
  });
});
