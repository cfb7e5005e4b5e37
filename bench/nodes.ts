import { startRedis } from "../test/support/redis.js";
import { type Child, start } from "./child.js";
import type { NodeSubject, ServerCalls, ViewerCalls } from "./messages.js";
import type { UpdateFrame } from "./payload.js";
import { tcpProxy } from "./proxy.js";
import type { Settings } from "./settings.js";
import type { Series } from "./stats.js";

export const NODE_SUBJECTS = ["ours", "socket.io"] as const;
const WARM_UP_UPDATES = 20;

export interface NodesResults {
  /** Microseconds of both nodes' CPU per delivered update. */
  cpu: Record<NodeSubject, Series>;
  /** Bytes an update that Redis sends to a third node, which has no viewer. */
  idle: Record<NodeSubject, Series>;
}

/** Two nodes with half of the viewers each, a third one with none; what is sent comes from a fourth process. */
export async function measureNodes(
  settings: Settings,
  frame: UpdateFrame,
  log: (line: string) => void,
): Promise<NodesResults> {
  const results: NodesResults = {
    cpu: { ours: [], "socket.io": [] },
    idle: { ours: [], "socket.io": [] },
  };
  for (let life = 0; life < settings.lives; life++) {
    log(`nodes, life ${life + 1} of ${settings.lives}: connecting`);
    const redis = await startRedis();
    const viewers = start<ViewerCalls>(settings.file("viewers"));
    const contestants: Nodes[] = [];
    for (const subject of NODE_SUBJECTS) {
      const nodes = new Nodes(subject, settings, viewers);
      await nodes.begin(frame, redis.port);
      contestants.push(nodes);
    }
    for (let round = 0; round < settings.rounds; round++) {
      log(`nodes, life ${life + 1} of ${settings.lives}: round ${round + 1}`);
      const spent = contestants.map(() => ({ cpu: 0, idle: 0 }));
      for (let turn = round; turn < round + settings.turns; turn++) {
        const order = [...contestants.keys()];
        for (const at of turn % 2 === 0 ? order : order.toReversed()) {
          const { cpu, idle } = (await contestants[at]?.turn()) ?? { cpu: 0, idle: 0 };
          const sum = spent[at] as (typeof spent)[number];
          sum.cpu += cpu;
          sum.idle += idle;
        }
      }
      contestants.forEach(({ subject }, at) => {
        const { cpu, idle } = spent[at] as (typeof spent)[number];
        results.cpu[subject].push(cpu / (settings.updates * settings.viewers));
        results.idle[subject].push(idle / settings.updates);
      });
    }
    viewers.stop();
    for (const nodes of contestants) nodes.end();
    await redis.close();
  }
  return results;
}

class Nodes {
  readonly subject: NodeSubject;
  readonly #settings: Settings;
  readonly #viewers: Child<ViewerCalls>;
  readonly #nodes: Child<ServerCalls>[] = [];
  readonly #worker: Child<ServerCalls>;
  #idle: Awaited<ReturnType<typeof tcpProxy>> | undefined;
  #updates = 0;

  constructor(subject: NodeSubject, settings: Settings, viewers: Child<ViewerCalls>) {
    this.subject = subject;
    this.#settings = settings;
    this.#viewers = viewers;
    this.#worker = start<ServerCalls>(settings.file("server"));
  }

  async begin(frame: UpdateFrame, port: number): Promise<void> {
    const { subject } = this;
    const redis = `redis://127.0.0.1:${port}`;
    await this.#worker.call("listen", { subject: `worker ${subject}`, frame, redis });
    this.#idle = await tcpProxy([port]);
    const through = `redis://127.0.0.1:${this.#idle.port}`;
    for (const [at, url] of [redis, redis, through].entries()) {
      const node = start<ServerCalls>(this.#settings.file("server"));
      const target = await node.call("listen", { subject: `node ${subject}`, frame, redis: url });
      this.#nodes.push(node);
      if (at < 2)
        await this.#viewers.call("connect", this.#crowd(at), target, this.#settings.viewers / 2);
    }
    for (let n = 0; n < WARM_UP_UPDATES; n++) await this.#send();
  }

  /** Some updates, each when everybody has the one before; microseconds of CPU, and bytes to the idle node. */
  async turn(): Promise<{ cpu: number; idle: number }> {
    const passed = this.#idle?.toClient() ?? 0;
    const before = await this.#cpu();
    for (let n = 0; n < this.#settings.updates / this.#settings.turns; n++) await this.#send();
    return { cpu: (await this.#cpu()) - before, idle: (this.#idle?.toClient() ?? 0) - passed };
  }

  end(): void {
    for (const child of [this.#worker, ...this.#nodes]) child.stop();
    this.#idle?.close();
  }

  #crowd = (at: number): string => `${this.subject} ${at}`;

  async #send(): Promise<void> {
    this.#updates += 1;
    await Promise.all([
      this.#viewers.call("expect", this.#crowd(0), 1),
      this.#viewers.call("expect", this.#crowd(1), 1),
      this.#worker.call("update", this.#updates, 1),
    ]);
  }

  async #cpu(): Promise<number> {
    const all = await Promise.all(this.#nodes.slice(0, 2).map((node) => node.call("cpu")));
    return all.reduce((sum, { user, system }) => sum + user + system, 0);
  }
}
