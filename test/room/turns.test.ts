import {
  allowAll,
  createWorkflowMonitor,
  type Member,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import { describe, expect, onTestFinished, test } from "vitest";
import { ManualClock, settle, turns } from "../support/clock.js";
import { range } from "../support/frames.js";
import { createCodec, watchRequest } from "../support/member.js";
import { until } from "../support/wait.js";

const JOB = "job";
/** What a turn of the event loop may send, and what one write costs besides its bytes. */
const TURN_BYTES = 4 * 1024 * 1024;
const WRITE_BYTES = 2 * 1024;
/** With a plan of these a job has about 1.6 MB. */
const STAGES = range(1, 5_000).map((n) => ({ stage: `stage ${n}` }));

async function start(options: Partial<WorkflowMonitorOptions> = {}) {
  const clock = new ManualClock();
  const monitor = createWorkflowMonitor({ authorize: allowAll, clock, ...options });
  onTestFinished(async () => {
    await settle(clock, monitor.close());
  });
  await monitor.publish({ type: "plan", jobId: JOB, stages: STAGES });
  return { clock, monitor };
}

/** A viewer that counts, and belongs to others that count together. */
class Counting implements Member {
  readonly mode: Member["mode"];
  readonly codec: Member["codec"];
  readonly #sent: { bytes: number; writes: number };
  writable = true;
  writes = 0;
  over = false;
  onWrite = () => {};

  constructor(
    sent: { bytes: number; writes: number },
    mode: Member["mode"],
    codec: Member["codec"],
  ) {
    this.#sent = sent;
    this.mode = mode;
    this.codec = codec;
  }

  write(parts: readonly Uint8Array[]): void {
    this.writes += 1;
    this.#sent.writes += 1;
    for (const part of parts) this.#sent.bytes += part.length;
    this.onWrite();
  }

  end(): void {
    this.over = true;
  }
}

/** Viewers of which it is known what they were sent in each turn of the event loop, at most. */
function audience(mode: Member["mode"] = "full") {
  const codec = createCodec();
  const sent = { bytes: 0, writes: 0 };
  let before = { ...sent };
  let stopped = false;
  const most = { bytes: 0, largest: 0 };
  const look = () => {
    const bytes = sent.bytes - before.bytes;
    const writes = sent.writes - before.writes;
    if (writes > 0) {
      most.largest = Math.max(most.largest, bytes / writes);
      most.bytes = Math.max(most.bytes, bytes + writes * WRITE_BYTES);
    }
    before = { ...sent };
    if (!stopped) setImmediate(look);
  };
  setImmediate(look);
  onTestFinished(() => {
    stopped = true;
  });
  return { most, member: () => new Counting(sent, mode, codec) };
}

async function within({ most }: ReturnType<typeof audience>): Promise<void> {
  await turns(2); // the last turn has been looked at
  expect(most.bytes).toBeLessThan(TURN_BYTES + 2 * (most.largest + WRITE_BYTES));
}

describe("[S18] [D5] a turn of the event loop sends at most 4 MiB of a job of 1.6 MB", () => {
  async function join(count: number, mode: Member["mode"] = "full", jobs = [JOB]) {
    const { clock, monitor } = await start();
    for (const jobId of jobs.slice(1))
      await monitor.publish({ type: "plan", jobId, stages: STAGES });
    const crowd = audience(mode);
    const members = range(1, count).map(() => crowd.member());
    const seats = await Promise.all(
      members.map((member, at) =>
        monitor.egress.join(watchRequest(jobs[at % jobs.length] as string), member, null),
      ),
    );
    return { clock, monitor, crowd, members, seats };
  }

  test("to viewers that come together", async () => {
    const { crowd, members } = await join(100);
    for (const { writes } of members) expect(writes).toBe(1);
    await within(crowd);
  });

  test("to viewers of several jobs", async () => {
    const { crowd, monitor, members } = await join(60, "full", [JOB, "second", "third"]);
    for (const jobId of [JOB, "second", "third"]) {
      void monitor.publish({ type: "job", jobId, message: "news" });
    }
    await until("all were sent the news", () => members.every(({ writes }) => writes === 2));
    await within(crowd);
  });

  test.each(["full", "delta"] as const)(
    "to viewers in mode %s, when most of it changes",
    async (mode) => {
      const { crowd, monitor, members } = await join(100, mode);
      const stages = STAGES.map(({ stage }) => ({ stage, name: `${stage}, renamed` }));
      await monitor.publish({ type: "plan", jobId: JOB, stages });
      await until("all were sent it", () => members.every(({ writes }) => writes >= 2));
      await within(crowd);
    },
  );

  test("to viewers that drain together", async () => {
    const { crowd, clock, monitor, members, seats } = await join(50);
    for (const member of members) member.writable = false;
    await monitor.publish({ type: "job", jobId: JOB, message: "news" });
    clock.advance(1_000);
    await turns(5);
    for (const member of members) member.writable = true;
    for (const seat of seats) seat.resume();
    await until("all have caught up", () => members.every(({ writes }) => writes === 2));
    await within(crowd);
  });

  test("to polls", async () => {
    const { monitor } = await start();
    let bytes = 0;
    let before = 0;
    let most = 0;
    let stopped = false;
    const look = () => {
      most = Math.max(most, bytes - before);
      before = bytes;
      if (!stopped) setImmediate(look);
    };
    setImmediate(look);
    const answers = range(1, 50).map(async () => {
      const body = await monitor.egress.read(watchRequest(JOB));
      bytes += body.bytes.length;
      return body.bytes.length;
    });
    const [size = 0] = await Promise.all(answers);
    await turns(2);
    stopped = true;
    expect(size).toBeGreaterThan(1_500_000);
    expect(most).toBeLessThan(TURN_BYTES + 2 * size);
  });
});

describe("[S18] [D5] others have their turn between those of a large job", () => {
  test("a small room is sent its update before a large one has all of its own", async () => {
    const { clock, monitor } = await start();
    await monitor.publish({ type: "job", jobId: "small", status: "running" });
    const crowd = audience();
    const large = range(1, 200).map(() => crowd.member());
    const small = crowd.member();
    await monitor.egress.join(watchRequest("small"), small, null);
    await Promise.all(large.map((member) => monitor.egress.join(watchRequest(JOB), member, null)));
    clock.advance(1_000);
    const sentFirst = () => large.filter(({ writes }) => writes === 2).length;
    let before: number | undefined;
    const [first] = large as [Counting];
    first.onWrite = () => void monitor.publish({ type: "job", jobId: "small", message: "news" });
    small.onWrite = () => {
      before = sentFirst();
    };
    void monitor.publish({ type: "job", jobId: JOB, message: "news" });
    await until("the small one has its news", () => small.writes === 2);
    expect(before).toBeLessThan(large.length / 10);
    await until("all have it", () => large.every(({ writes }) => writes === 2));
  });
});

test("[D9] a viewer whose turn comes while its node goes is told at once", async () => {
  const { clock, monitor } = await start({ drainMs: 60_000 });
  const crowd = audience("long-poll");
  const { cursor } = await monitor.egress.read(watchRequest(JOB));
  const members = range(1, 30).map(() => crowd.member());
  const first = audience();
  // They are told in portions, so the node takes its time.
  const seated = range(1, 120).map(() =>
    monitor.egress.join(watchRequest(JOB), first.member(), null),
  );
  await Promise.all(seated);
  const seats = range(1, 30).map(
    () => monitor.egress.join(watchRequest(JOB), first.member(), null), // more than a turn
  );
  const joins = members.map((member) => monitor.egress.join(watchRequest(JOB), member, cursor));
  const drained = monitor.drain();
  await turns(40);
  const outcomes = await Promise.allSettled(joins);
  const told = outcomes.map(({ status }, at) => status === "rejected" || members[at]?.over);
  expect(told).toEqual(members.map(() => true));
  await settle(clock, drained, { stepMs: 5_000 });
  await Promise.allSettled(seats);
});

describe("[S18] one turn of the event loop takes at most so many events", () => {
  /** How many revisions were stored in each turn, at most. */
  function countStored(monitor: Awaited<ReturnType<typeof start>>["monitor"]) {
    const counted = { stored: 0, most: 0 };
    let before = 0;
    let stopped = false;
    monitor.on("update", () => {
      counted.stored += 1;
    });
    const look = () => {
      counted.most = Math.max(counted.most, counted.stored - before);
      before = counted.stored;
      if (!stopped) setImmediate(look);
    };
    setImmediate(look);
    onTestFinished(() => {
      stopped = true;
    });
    return counted;
  }

  test("of a job of 5,000 stages: 8, however many wait", async () => {
    const { monitor } = await start();
    const counted = countStored(monitor);
    const all = range(1, 256).map((n) =>
      monitor.publish({ type: "stage", jobId: JOB, stage: `stage ${n}`, status: "running" }),
    );
    await Promise.all(all);
    await turns(2);
    expect(counted.stored).toBe(256);
    expect(counted.most).toBeLessThanOrEqual(2 * 8); // an immediate of this test may come between
  });

  test("of 5,000 small jobs: as many as fit, and those of other jobs come between", async () => {
    const { monitor } = await start();
    const counted = countStored(monitor);
    const all = range(1, 5_000).map((n) =>
      monitor.publish({ type: "job", jobId: `job ${n}`, status: "running" }),
    );
    await Promise.all(all);
    await turns(2);
    expect(counted.stored).toBe(5_000);
    expect(counted.most).toBeLessThan(600);
  });

  test("of a plan that makes a job large along with what follows it", async () => {
    const { monitor } = await start();
    const counted = countStored(monitor);
    const stages = STAGES.map(({ stage }) => ({ stage: `other ${stage}` }));
    const first = monitor.publish({ type: "plan", jobId: "other", stages });
    const all = range(1, 63).map((n) =>
      monitor.publish({
        type: "stage",
        jobId: "other",
        stage: `other stage ${n}`,
        status: "running",
      }),
    );
    await Promise.all([first, ...all]);
    await turns(2);
    expect(counted.stored).toBe(64);
    expect(counted.most).toBeLessThanOrEqual(2 * 8);
  });
});
