import {
  allowAll,
  type Cursor,
  createWorkflowMonitor,
  printCursor,
  type WorkflowMonitor,
} from "@org/workflow-monitor";
import { describe, expect, onTestFinished, test } from "vitest";
import { ManualClock, settle, turns } from "../support/clock.js";
import { Crowd } from "../support/crowd.js";
import { type FrameOf, range, revisionsIn } from "../support/frames.js";
import { startServer } from "../support/server.js";
import { type SlowClient, type SlowKind, slowClient } from "../support/slow.js";
import { countingStore } from "../support/stores.js";
import { until } from "../support/wait.js";

const JOBS = ["one", "two", "three"];
const HEAD = 100;

/** Jobs of 100 revisions; their heads. */
async function begin(monitor: WorkflowMonitor): Promise<Cursor[]> {
  return Promise.all(
    JOBS.map(async (jobId) => {
      const all = range(1, HEAD).map((n) =>
        monitor.publish({ type: "job", jobId, message: `${n}` }),
      );
      return (await Promise.all(all)).at(-1) as Cursor;
    }),
  );
}

describe("[D10] viewers that come back at once", () => {
  test("[D10] cost two reads and one follow a job, wherever they stand: 5,000 in memory", async () => {
    const clock = new ManualClock();
    const { store, counts } = countingStore({ clock });
    const monitor = createWorkflowMonitor({ authorize: allowAll, clock, store });
    onTestFinished(async () => {
      await settle(clock, monitor.close());
    });
    const heads = await begin(monitor);
    const { reads } = counts;
    const crowd = new Crowd();
    const joining = range(1, 5_000).map((n) => {
      const job = n % JOBS.length;
      const head = heads[job] as Cursor;
      const at = [undefined, head, { ...head, revision: 50 + (n % 50) }][n % 7] ?? undefined;
      const mode = n % 2 ? "full" : "delta";
      return crowd.join(monitor, JOBS[job] as string, { mode, ...(at && { after: at }) });
    });
    await Promise.all(joining);
    expect(counts).toMatchObject({ reads: reads + 2 * JOBS.length, follows: JOBS.length });
    expect(monitor.stats()).toMatchObject({ rooms: JOBS.length, viewers: { ws: 5_000 } });

    for (const jobId of JOBS) await monitor.publish({ type: "job", jobId, message: "news" });
    await until("all have had their turn", () =>
      crowd.all.every(({ cursor }) => cursor?.revision === HEAD + 1),
    );
    expect(crowd.faults).toEqual([]);
    expect(counts).toMatchObject({ reads: reads + 2 * JOBS.length, follows: JOBS.length });
  });

  test("[D10] cost no more when the cursors of some are nobody's", async () => {
    const clock = new ManualClock();
    const { store, counts } = countingStore({ clock });
    const monitor = createWorkflowMonitor({ authorize: allowAll, clock, store });
    onTestFinished(async () => {
      await settle(clock, monitor.close());
    });
    const [head] = await begin(monitor);
    const { reads } = counts;
    const crowd = new Crowd();
    const foreign = { epoch: "another00000", revision: HEAD };
    const joining = range(1, 1_000).map((n) =>
      crowd.join(monitor, "one", { ...(n % 2 ? { after: foreign } : {}) }),
    );
    await settle(clock, Promise.all(joining));
    expect(counts).toMatchObject({ reads: reads + 2, follows: 1 });
    expect(crowd.faults).toEqual([]);
    expect(new Set(crowd.all.map(({ cursor }) => cursor && printCursor(cursor)))).toEqual(
      new Set([printCursor(head as Cursor)]),
    );
  });

  test("[D10] cost the same over sockets: 300 by WebSocket, event stream and long-poll", async () => {
    const { store, counts } = countingStore();
    const server = await startServer({ store });
    const heads = await begin(server.monitor);
    const { reads } = counts;
    const polls: { answer: ReturnType<typeof server.get>; from: number }[] = [];
    const opening: Promise<{ client: SlowClient; from: number }>[] = [];
    for (const n of range(1, 300)) {
      const job = n % JOBS.length;
      const jobId = JOBS[job] as string;
      const from = n % 5 === 0 ? HEAD : 40 + (n % 50);
      const after = printCursor({ ...(heads[job] as Cursor), revision: from });
      const events = `/jobs/${jobId}/events?after=${after}`;
      const open = async (path: string, kind: SlowKind) => ({
        from,
        client: await slowClient(server.port, path, kind),
      });
      const way = Math.floor(n / 3) % 3;
      if (way === 0) opening.push(open(`/ws?jobId=${jobId}&after=${after}`, "ws"));
      else if (way === 1) opening.push(open(events, "sse"));
      else polls.push({ from, answer: server.get(`${events}&wait=20`) });
    }
    const clients = await Promise.all(opening);
    for (const { client } of clients) client.read();
    await until("all are served", () => clients.every(({ client }) => client.frames.length > 0));
    await until("those at the head wait", () => {
      const waiting = polls.filter(({ from }) => from === HEAD);
      return server.monitor.stats().viewers.longPoll === waiting.length;
    });
    expect(counts).toMatchObject({ reads: reads + 2 * JOBS.length, follows: JOBS.length });

    for (const jobId of JOBS) await server.monitor.publish({ type: "job", jobId, message: "news" });
    await until("all have the news", () =>
      clients.every(({ client, from }) => revisionsIn(client.frames).length === HEAD + 1 - from),
    );
    for (const { client, from } of clients) {
      expect(revisionsIn(client.frames)).toEqual(range(from + 1, HEAD + 1));
    }
    for (const { answer, from } of polls) {
      const frame = (await answer).json<FrameOf<"snapshot">>();
      const last = from === HEAD ? HEAD + 1 : HEAD;
      expect(revisionsIn([frame])).toEqual(range(from + 1, last));
    }
    await turns();
    expect(counts).toMatchObject({ reads: reads + 2 * JOBS.length, follows: JOBS.length });
  });
});
