import {
  allowAll,
  createWorkflowMonitor,
  type Frame,
  type JobSnapshot,
  type Mode,
  parseCursor,
} from "@org/workflow-monitor";
import { createHistory } from "@org/workflow-monitor/testing";
import { expect, onTestFinished, test } from "vitest";
import { as, range, revisionsIn } from "./frames.js";
import { joinLink, type MemoryLink } from "./memory-link.js";

const JOB = "job";

async function setUp(options: { mode?: Mode; capacity?: number } = {}) {
  const monitor = createWorkflowMonitor({ authorize: allowAll });
  onTestFinished(() => monitor.close());
  const say = (message: string) => monitor.publish({ type: "job", jobId: JOB, message });
  await say("first");
  return { monitor, say, link: await joinLink(monitor, JOB, options) };
}

const frames = (texts: string[]) => texts.map((text) => JSON.parse(text) as Frame);

test("nothing arrives before it is delivered, and frames come whole, however they are sliced", async () => {
  const { monitor, say, link } = await setUp();
  const twin = await joinLink(monitor, JOB);
  await say('two "\\ é\n');
  expect(link.underWay).toBe(twin.underWay);
  const texts: string[] = [];
  while (link.underWay > 0) texts.push(...link.deliver(1));
  expect(frames(texts).map(({ type }) => type)).toEqual(["snapshot", "update"]);
  expect(twin.deliver()).toEqual(texts);
});

test("a full link is parked until it is drained, and caught up on then", async () => {
  const { monitor, say, link } = await setUp({ capacity: 2_000 });
  link.deliver();
  for (const n of range(1, 10)) await say(`message ${n}`);
  expect(link.writable).toBe(false);
  expect(link.underWay).toBeLessThan(4_000);
  expect(monitor.stats().parked).toBe(1);
  link.deliver(link.underWay - 1);
  expect([link.writable, monitor.stats().parked]).toEqual([false, 1]);
  link.deliver();
  expect(monitor.stats().parked).toBe(0);
  const [caughtUp] = frames(link.deliver());
  expect(as("snapshot", caughtUp)).toMatchObject({ behind: true, resumed: true });
  expect(link.writable).toBe(true);
});

test("a paused link delivers nothing until it is resumed", async () => {
  const { link, say } = await setUp();
  link.pause();
  await say("two");
  const { underWay } = link;
  expect([link.deliver(), link.underWay]).toEqual([[], underWay]);
  link.resume();
  expect(revisionsIn(frames(link.deliver()))).toEqual([2]);
});

test("a black hole drains, and brings nothing", async () => {
  const { link, say } = await setUp({ capacity: 10 });
  link.blackHole();
  expect(link.writable).toBe(false);
  expect(link.deliver()).toEqual([]);
  expect([link.writable, link.underWay]).toEqual([true, 0]);
  await say("two");
  expect(link.deliver()).toEqual([]);
});

test("the end is seen after what was written before it", async () => {
  const { monitor, link } = await setUp();
  await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
  expect(link.ended).toBeUndefined();
  expect(frames(link.deliver()).map(({ type }) => type)).toEqual(["snapshot", "update", "end"]);
  expect(link.ended).toEqual({ code: 1000, reason: "done" });
});

test("what was under way when a link was cut is brought to who comes back", async () => {
  const { monitor, say, link } = await setUp();
  const history = createHistory();
  monitor.on("update", ({ jobId, cursor, event }) => history.published(jobId, cursor, event));
  history.published(JOB, (await monitor.get(JOB)) as JobSnapshot);
  let cursor = "";
  const observe = (from: MemoryLink, bytes?: number) => {
    for (const text of from.deliver(bytes)) {
      history.observe({ viewer: "ann", transport: "watch", text });
      cursor = (JSON.parse(text) as { cursor: string }).cursor;
    }
  };
  history.joined({ viewer: "ann", jobId: JOB, after: null });
  observe(link);
  await say("two");
  await say("three");
  observe(link, link.underWay - 10);
  link.cut();
  expect(monitor.stats().viewers.ws).toBe(0);
  await say("four");
  expect([link.underWay, link.deliver()]).toEqual([0, []]);

  const after = parseCursor(cursor);
  const back = await joinLink(monitor, JOB, after && { after });
  history.joined({ viewer: "ann", jobId: JOB });
  observe(back);
  history.check();
  expect(history.summary).toMatchObject({ updates: 1, resumed: 1, events: 3 });
});
