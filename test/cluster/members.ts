import type { History } from "@org/workflow-monitor/testing";
import { seededRandom } from "../support/random.js";
import { Jobs } from "./jobs.js";
import { Ledger } from "./ledger.js";
import type { Told } from "./log.js";
import type { NodeCalls } from "./node.js";
import { ClusterProcess } from "./process.js";
import type { PublisherCalls } from "./publisher.js";
import { ClusterRedis } from "./redis.js";
import { NODES, PUBLISHERS, SEED } from "./settings.js";
import { Viewers, type WebNode } from "./viewers.js";

type Publisher = ClusterProcess<PublisherCalls>;

export interface Cluster {
  redis: ClusterRedis;
  nodes: readonly WebNode[];
  publishers: readonly Publisher[];
  jobs: Jobs;
  viewers: Viewers;
  ledger: Ledger;
  /** What processes did that they must not: ended by themselves, wrote to stderr, logged an error. */
  crashes: string[];
}

export const range = (count: number) => Array.from({ length: count }, (_, at) => at + 1);

/** Numbers of their own for each use: what runs beside does not change them. */
export const random = (use: number) => seededRandom(SEED * 1_000 + use);

/** Processes that run, jobs and viewers that wait to be set going. Processes log to the folder. */
export async function startCluster(history: History, folder: string): Promise<Cluster> {
  const redis = await ClusterRedis.start();
  const ledger = new Ledger();
  const crashes: string[] = [];
  const common = { folder, onCrash: (what: string) => crashes.push(what) };

  function hear(told: Told, life: string): void {
    if (told.tell === "error") crashes.push(`${life} logged: ${told.message}`);
    if (told.tell !== "update") return;
    const { jobId, cursor, event } = told.update;
    ledger.appended(life, told.update);
    history.published(jobId, cursor, event as never);
  }

  function createNode(n: number): WebNode {
    const node: WebNode = {
      port: 0,
      streams: 0,
      process: new ClusterProcess<NodeCalls>({
        ...{ ...common, hear, name: `node ${n}`, program: "node.ts" },
        async open(child, log) {
          node.port = await child.call("open", { redis: redis.url, log, port: node.port });
        },
      }),
    };
    return node;
  }

  const createPublisher = (n: number): Publisher =>
    new ClusterProcess<PublisherCalls>({
      ...{ ...common, hear, name: `publisher ${n}`, program: "publisher.ts" },
      open: (child, log) => child.call("open", { redis: redis.url, log }),
    });

  const nodes = range(NODES).map(createNode);
  const publishers = range(PUBLISHERS).map(createPublisher);
  await Promise.all([
    ...nodes.map(({ process }) => process.start()),
    ...publishers.map((each) => each.start()),
  ]);

  const jobs = new Jobs({ history, ledger, random: random(1) });
  const mayBeGone = (jobId: string) => ledger.mayBeGone(jobId);
  const viewers = new Viewers({ history, nodes, live: jobs.live, random: random(2), mayBeGone });
  return { redis, nodes, publishers, jobs, viewers, ledger, crashes };
}
