import { onTestFinished } from "vitest";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.js";
import { type RedisServer, startRedis } from "../support/redis.js";
import { type RedisReply, redisCommand } from "../support/redis-command.js";

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const PATIENCE_MS = 20_000;

/** The one Redis of the cluster, whichever process that is, and the proxy on everybody's way to it. */
export class ClusterRedis {
  readonly proxy: FaultProxy;
  readonly #state: { server: RedisServer };

  private constructor(state: { server: RedisServer }, proxy: FaultProxy) {
    this.#state = state;
    this.proxy = proxy;
    onTestFinished(() => state.server.close());
  }

  static async start(): Promise<ClusterRedis> {
    const state = { server: await startServer() };
    return new ClusterRedis(state, await startFaultProxy(() => state.server.port));
  }

  /** What everybody is told. */
  get url(): string {
    return `redis://127.0.0.1:${this.proxy.port}`;
  }

  /** Goes past the proxy. */
  command(...words: (string | number)[]): Promise<RedisReply> {
    return redisCommand(this.#state.server.port, ...words);
  }

  pause(): void {
    process.kill(this.#state.server.pid, "SIGSTOP");
  }

  resume(): void {
    process.kill(this.#state.server.pid, "SIGCONT");
  }

  /** Away for a while. */
  async restart(data: "kept" | "lost", awayMs: number): Promise<void> {
    const { server } = this.#state;
    await server.stop("SIGKILL");
    await sleep(awayMs);
    await server.start({ data });
  }

  /**
   * A replica takes over, without what was written since its link to the master broke: `lagMs` at
   * least, and not before there was something. `onLag` hears when it breaks.
   */
  async promoteLagging(lagMs: number, onLag: () => void): Promise<void> {
    const former = this.#state.server;
    const link = await startFaultProxy(former.port);
    const replica = await startServer();
    // Not as an argument: it must not be a replica again when it restarts.
    await redisCommand(replica.port, "REPLICAOF", "127.0.0.1", link.port);
    await eventually("the replica is in step", async () => {
      const of = await replication(replica);
      return of.master_link_status === "up";
    });
    onLag();
    link.blackHole("toClient");
    await sleep(lagMs);
    await eventually("the replica lags", async () => {
      const [master, behind] = [await replication(former), await replication(replica)];
      return Number(master.master_repl_offset) > Number(behind.slave_repl_offset) + 1_000;
    });
    await former.stop("SIGKILL");
    await redisCommand(replica.port, "REPLICAOF", "NO", "ONE");
    await eventually("its data are on the disk", async () => {
      const info = `${await redisCommand(replica.port, "INFO", "persistence")}`;
      return /aof_rewrite_in_progress:0/.test(info) && /aof_rewrite_scheduled:0/.test(info);
    });
    this.#state.server = replica;
    await former.close();
    link.cut();
  }

  /** Names of the keys of a kind. */
  async keys(type: "hash" | "stream"): Promise<string[]> {
    const found: string[] = [];
    let cursor = "0";
    do {
      const reply = await this.command("SCAN", cursor, "COUNT", 1_000, "TYPE", type);
      const [next, keys] = reply as [string, string[]];
      cursor = next;
      found.push(...keys);
    } while (cursor !== "0");
    return found;
  }
}

const startServer = (): Promise<RedisServer> =>
  startRedis({ persist: true, args: ["--repl-diskless-sync-delay", "0"] });

async function replication({ port }: RedisServer): Promise<Record<string, string>> {
  const text = `${await redisCommand(port, "INFO", "replication")}`;
  return Object.fromEntries(text.split("\r\n").map((line) => line.split(":") as [string, string]));
}

async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + PATIENCE_MS; !(await holds()); await sleep(20)) {
    if (Date.now() > end) throw new Error(`waited ${PATIENCE_MS} ms in vain until ${what}`);
  }
}
