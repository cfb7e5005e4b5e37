import { startRedis } from "../test/support/redis.js";
import { type Child, start } from "./child.js";
import { BURST } from "./fan-out.js";
import type { Cpu, NodeSubject, ServerCalls, ViewerCalls } from "./messages.js";
import type { UpdateFrame } from "./payload.js";
import { tcpProxy } from "./proxy.js";
import type { Settings } from "./settings.js";
import type { Series } from "./stats.js";

export const NODE_SUBJECTS = ["ours", "socket.io"] as const;
const WARM_UP_UPDATES = 20;

export interface NodesResults {
  /** Microseconds of both nodes' CPU per delivered update: of one a tick, of that what the program does, and of bursts. */
  cpu: Record<NodeSubject, Series>;
  user: Record<NodeSubject, Series>;
  burst: Record<NodeSubject, Series>;
  /** Bytes an update that Redis sends to a third node, which has no viewer. */
  idle: Record<NodeSubject, Series>;
}

/** Two nodes with half of the viewers each, a third one with none; what is sent comes from a fourth process. */
export async function measureNodes(
  settings: Settings,
  frame: UpdateFrame,
  log: (line: string) => void,
): Promise<NodesResults> {
  const results: NodesResults = { cpu: none(), user: none(), burst: none(), idle: none() };
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
      const spent = contestants.map(nothing);
      for (let turn = round; turn < round + settings.turns; turn++) {
        const order = [...contestants.keys()];
        for (const at of turn % 2 === 0 ? order : order.toReversed()) {
          const turn = (await contestants[at]?.turn(1)) ?? nothing();
          const sum = spent[at] as Spent;
          for (const key of ["user", "system", "idle"] as const) sum[key] += turn[key];
        }
      }
      for (const [at, nodes] of contestants.entries()) {
        const { user, system, idle } = spent[at] as Spent;
        const deliveries = settings.updates * settings.viewers;
        results.cpu[nodes.subject].push((user + system) / deliveries);
        results.user[nodes.subject].push(user / deliveries);
        results.idle[nodes.subject].push(idle / settings.updates);
        const burst = await nodes.turn(BURST);
        const sent = BURST * (settings.updates / settings.turns);
        results.burst[nodes.subject].push((burst.user + burst.system) / (sent * settings.viewers));
      }
    }
    viewers.stop();
    for (const nodes of contestants) nodes.end();
    await redis.close();
  }
  return results;
}

interface Spent extends Cpu {
  /** Bytes to the idle node. */
  idle: number;
}

const nothing = (): Spent => ({ user: 0, system: 0, idle: 0 });
const none = (): Record<NodeSubject, Series> => ({ ours: [], "socket.io": [] });

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
    for (let n = 0; n < WARM_UP_UPDATES; n++) await this.#send(1);
    await this.#send(BURST);
  }

  /** So many at a time, the next when everybody has them. */
  async turn(count: number): Promise<Spent> {
    const passed = this.#idle?.toClient() ?? 0;
    const before = await this.#cpu();
    for (let n = 0; n < this.#settings.updates / this.#settings.turns; n++) await this.#send(count);
    const after = await this.#cpu();
    return {
      user: after.user - before.user,
      system: after.system - before.system,
      idle: (this.#idle?.toClient() ?? 0) - passed,
    };
  }

  end(): void {
    for (const child of [this.#worker, ...this.#nodes]) child.stop();
    this.#idle?.close();
  }

  #crowd = (at: number): string => `${this.subject} ${at}`;

  async #send(count: number): Promise<void> {
    const from = this.#updates + 1;
    this.#updates += count;
    await Promise.all([
      this.#viewers.call("expect", this.#crowd(0), count),
      this.#viewers.call("expect", this.#crowd(1), count),
      this.#worker.call("update", from, count),
    ]);
  }

  async #cpu(): Promise<Cpu> {
    const all = await Promise.all(this.#nodes.slice(0, 2).map((node) => node.call("cpu")));
    return {
      user: all.reduce((sum, { user }) => sum + user, 0),
      system: all.reduce((sum, { system }) => sum + system, 0),
    };
  }
}
