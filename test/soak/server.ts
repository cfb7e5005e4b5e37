import {
  allowAll,
  type Cursor,
  createWorkflowMonitor,
  type JobStore,
  type MonitorStats,
  memoryStore,
  type PublishedEvent,
  type WorkflowMonitor,
} from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import Fastify from "fastify";
import { answer } from "../../bench/child.js";

/** The process under load: two nodes that serve viewers and one that publishes, on one store. */
export type SoakCalls = {
  /** The ports of the serving nodes. They stay. */
  open(): Promise<number[]>;
  /** The cursors; null for an event that was not taken. */
  publish(events: PublishedEvent[]): Promise<(Cursor | null)[]>;
  get(jobId: string): ReturnType<WorkflowMonitor["get"]>;
  /** One node goes, its viewers with it, and comes again. */
  restart(node: number): Promise<void>;
  /** The store loses all logs; publishers go on from what they know. */
  loseLogs(jobIds: string[]): Promise<void>;
  /** After a collection. */
  usage(): Promise<Usage>;
};

export interface Usage {
  rss: number;
  heap: number;
  /** Open handles by kind: sockets, timers … */
  resources: Record<string, number>;
  nodes: MonitorStats[];
}

interface Node {
  port: number;
  monitor: WorkflowMonitor;
  close(): Promise<void>;
}

/** Few, so that it is full after seconds: logs of jobs that are over are no growth afterwards. */
const newLogs = () => memoryStore({ jobs: 8 });
let logs = newLogs();
const refollow = new Set<() => Promise<void>>();
const connections = new Set<(there: boolean) => void>();
const store: JobStore = {
  read: (...args) => logs.read(...args),
  append: (...args) => logs.append(...args),
  find: (...args) => logs.find(...args),
  async follow(jobId, listener) {
    let unfollow = await logs.follow(jobId, listener);
    const again = async () => {
      unfollow = await logs.follow(jobId, listener);
    };
    refollow.add(again);
    return () => {
      refollow.delete(again);
      unfollow();
    };
  },
  connection(listener) {
    connections.add(listener);
    listener(true);
    return () => connections.delete(listener);
  },
  close: () => logs.close(),
};
const options = {
  authorize: allowAll,
  store,
  lingerMs: 200,
  heartbeatMs: 1_000,
  stallTimeoutMs: 2_000,
  drainMs: 300,
  // Few, likewise: what a publisher remembers is full after seconds.
  limits: {
    pinnedBytes: 8 * 1024 * 1024,
    historyBytes: 128 * 1024,
    rememberedBytes: 4 * 1024 * 1024,
  },
};
const publisher = createWorkflowMonitor(options);
const nodes: Node[] = [];

async function openNode(port: number): Promise<Node> {
  const monitor = createWorkflowMonitor(options);
  const app = Fastify();
  await app.register(workflowMonitorHttp, { monitor });
  attachWebSocket(app.server, { monitor });
  const url = await app.listen({ port, host: "127.0.0.1" });
  return {
    port: Number(new URL(url).port),
    monitor,
    async close() {
      await app.close();
      await monitor.close();
    },
  };
}

answer<SoakCalls>({
  async open() {
    nodes.push(await openNode(0), await openNode(0));
    return nodes.map(({ port }) => port);
  },
  publish: (events) =>
    Promise.all(events.map((event) => publisher.publish(event).catch(() => null))),
  get: (jobId) => publisher.get(jobId),
  async restart(at) {
    const node = nodes[at] as Node;
    await node.close();
    nodes[at] = await openNode(node.port);
  },
  async loseLogs(jobIds) {
    for (const tell of connections) tell(false);
    void logs.close();
    logs = newLogs();
    await Promise.all(
      jobIds.map((jobId) => publisher.publish({ type: "job", jobId, message: "again" })),
    );
    await Promise.all([...refollow].map((again) => again()));
    for (const tell of connections) tell(true);
  },
  async usage() {
    for (let round = 0; round < 3; round++) {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const { rss, heapUsed, external } = process.memoryUsage();
    const resources: Record<string, number> = {};
    for (const kind of process.getActiveResourcesInfo()) {
      if (kind !== "Immediate") resources[kind] = (resources[kind] ?? 0) + 1;
    }
    return {
      rss,
      heap: heapUsed + external,
      resources,
      nodes: nodes.map(({ monitor }) => monitor.stats()),
    };
  },
});
