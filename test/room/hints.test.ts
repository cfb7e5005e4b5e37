import {
  type Announced,
  allowAll,
  createWorkflowMonitor,
  memoryStore,
} from "@org/workflow-monitor";
import { expect, onTestFinished, test } from "vitest";
import { ManualClock, settle, turns } from "../support/clock.js";
import { range, revisionsIn } from "../support/frames.js";
import { join } from "../support/member.js";
import { announcingStore } from "../support/stores.js";

/** A job with a viewer; announcements pass through `change`, and the reads of the store are counted. */
async function watched(change: (note: Announced) => Announced | undefined) {
  const clock = new ManualClock();
  const counts = { reads: 0 };
  const { store, listeners } = announcingStore(memoryStore({ clock }), (note, tell) => {
    const changed = change(note);
    if (changed) tell(changed);
  });
  const monitor = createWorkflowMonitor({
    authorize: allowAll,
    clock,
    store: {
      ...store,
      read(jobId, after) {
        counts.reads += 1;
        return store.read(jobId, after);
      },
    },
  });
  onTestFinished(() => settle(clock, monitor.close()));
  const say = async (message: string) => {
    const cursor = await monitor.publish({ type: "job", jobId: "j", message });
    await turns();
    return cursor;
  };
  const cursor = await say("first");
  const { member } = await join(monitor, "j");
  const hear = (note: Announced) => {
    for (const listener of listeners) listener(note);
  };
  counts.reads = 0;
  return { clock, counts, cursor, say, hear, member };
}

test("[S5] [D13] an announcement without revisions makes the room read", async () => {
  const { say, counts, member } = await watched((note) => ({ ...note, revisions: [] }));
  for (const n of range(2, 5)) await say(`${n}`);
  expect(counts.reads).toBe(4);
  expect(member.frames().at(-1)).toMatchObject({ job: { message: "5", revision: 5 } });
});

test("[S5] [D13] a flood of announcements that are not true costs one read a second", async () => {
  const { hear, counts, clock, say, member } = await watched((note) => note);
  const flood = async () => {
    for (const n of range(1, 500)) {
      hear({ cursor: { epoch: "zzzzzzzzzzzz", revision: n }, id: "x", revisions: [] });
      if (n % 10 === 0) await turns(1);
    }
  };
  for (const second of range(1, 10)) {
    await flood();
    expect(counts.reads).toBe(second);
    clock.advance(1_000);
    await turns();
  }
  // What is true reaches the viewer in between, at once.
  await flood();
  await say("true");
  expect(revisionsIn(member.frames())).toEqual([2]);
});

test("[S5] [D13] so does one in which the room has no time to hear them all", async () => {
  const { hear, counts, clock } = await watched((note) => note);
  const flood = () => {
    for (const n of range(1, 5_000))
      hear({ cursor: { epoch: "zzzzzzzzzzzz", revision: n }, id: "x", revisions: [] });
  };
  for (const _ of range(1, 20)) {
    flood();
    await turns();
  }
  expect(counts.reads).toBe(1);
  clock.advance(1_000);
  await turns();
  expect(counts.reads).toBe(2);
});

test("[S5] [D13] losses are read at once, however many there are", async () => {
  let lose = false;
  const { say, counts, clock, member } = await watched((note) => {
    lose = !lose;
    return lose ? undefined : note;
  });
  for (const n of range(2, 21)) await say(`${n}`);
  expect(counts.reads).toBe(10);
  expect(clock.timers).toBeGreaterThan(0);
  expect(member.frames().at(-1)).toMatchObject({ job: { message: "21" } });
});
