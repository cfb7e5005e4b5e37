import { createHistory } from "@org/workflow-monitor/testing";
import { describe, expect, test } from "vitest";
import { overEventPoll, overEventStream } from "../support/http-watchers.js";
import { seededRandom } from "../support/random.js";
import { startServer } from "../support/server.js";
import { until } from "../support/wait.js";
import {
  overSubscription,
  overWebSocket,
  startWatcher,
  type WatcherTransport,
} from "../support/watchers.js";

const JOB = "the job";
const EVENTS = 400;

const revisionOf = (cursor = "."): number => Number(cursor.split(".")[1]);

const allTransports = (port: number): WatcherTransport[] => [
  overWebSocket(port),
  overEventPoll(port),
  overEventStream(port),
  overEventPoll(port, 5),
  overSubscription(port, "delta"),
  overEventStream(port, "delta"),
  overWebSocket(port, "delta"),
  overSubscription(port),
];

describe("[D1] one cursor on every transport", () => {
  test.each([1, 2, 3, 4, 5])(
    "a viewer that changes its transport at each reconnect misses nothing and sees nothing twice: schedule %i",
    { timeout: 60_000 },
    async (seed) => {
      const random = seededRandom(seed);
      const server = await startServer();
      const { monitor, port } = server;
      const history = createHistory();
      const transports = allTransports(port);
      const stages = ["a", "b", "c", "d"];
      history.published(
        JOB,
        await monitor.publish({
          type: "plan",
          jobId: JOB,
          stages: stages.map((stage) => ({ stage })),
        }),
      );

      // Some change in turn, each from another one on; some take what comes by chance; some stay.
      const watchers = [
        ...transports.map((_, at) =>
          startWatcher({
            history,
            viewer: `changing from ${at}`,
            jobId: JOB,
            over: (n) => transports[(at + n) % transports.length]!,
          }),
        ),
        ...[1, 2, 3, 4].map((n) =>
          startWatcher({
            history,
            viewer: `random ${n}`,
            jobId: JOB,
            over: () => random.pick(transports)!,
          }),
        ),
        ...transports.map((over, at) =>
          startWatcher({ history, viewer: `staying ${at}`, jobId: JOB, over }),
        ),
      ];

      const publish = async (n: number): Promise<void> => {
        const event = {
          type: "stage",
          jobId: JOB,
          stage: random.pick(stages)!,
          message: `ü ${n} ${"·".repeat(random.below(200))}`,
        } as const;
        history.published(JOB, await monitor.publish(event), event);
      };
      for (let n = 0; n < EVENTS; ) {
        const burst = random.below(10) === 0 ? 20 : 1 + random.below(3);
        await Promise.all(Array.from({ length: burst }, () => publish(n++)));
        for (const watcher of watchers.slice(0, 12)) if (random.below(8) === 0) watcher.cut();
        // In step with the viewers, by chance with a slow or a fast one.
        const awaited = random.pick(watchers)!;
        const head = (await monitor.publish({ type: "job", jobId: JOB })).revision;
        await until(`${awaited.viewer} is there`, () => revisionOf(awaited.cursor) >= head);
      }
      const end = await monitor.publish({ type: "job", jobId: JOB, status: "completed" });
      history.published(JOB, end);
      await Promise.all(watchers.map(({ ended }) => ended));
      history.head(JOB, end, await monitor.get(JOB));
      history.check();
      const { observations, resumed, updates } = history.summary;
      expect(Math.min(observations.ws, observations.sse, observations.poll)).toBeGreaterThan(20);
      expect(observations["long-poll"]).toBeGreaterThan(20);
      expect(resumed).toBeGreaterThan(50);
      expect(updates).toBeGreaterThan(1_000);
      expect(Math.max(...watchers.map(({ connections }) => connections))).toBeGreaterThan(10);
    },
  );
});
