import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const EXECUTABLE = process.env.REDIS_SERVER ?? "redis-server";
const isMissing = spawnSync(EXECUTABLE, ["--version"]).status !== 0;

/** Whether to leave out what needs a Redis: never where REQUIRE_SERVICES is set. */
export const withoutRedis = isMissing && process.env.REQUIRE_SERVICES !== "1";
if (withoutRedis) {
  console.warn("SKIPPED: no redis-server. Set REDIS_SERVER, or: apt-get install redis-server");
}

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  readonly pid: number;
  /** Ends the process: SIGTERM saves if it was started with `persist`, SIGKILL loses what was not yet written. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again after `stop`, on the same port; with the data that it saved, or none. */
  start(options?: { data?: "kept" | "lost" }): Promise<void>;
  /** Ends it and removes its folder. */
  close(): Promise<void>;
}

export interface RedisOptions {
  /** Writes every append to disk (AOF, fsync always), so that a restart finds it. Default false. */
  persist?: boolean;
  /** Further arguments, as on its command line. */
  args?: string[];
  /** Further variables of its environment. */
  env?: Record<string, string>;
}

/** A Redis of one's own on a free port of 127.0.0.1. Resolves when it answers. */
export async function startRedis({
  persist = false,
  args = [],
  env = {},
}: RedisOptions = {}): Promise<RedisServer> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "workflow-monitor-redis-"));
  const aof = persist ? ["yes", "--appendfsync", "always"] : ["no"];
  const common = ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", folder, "--save", ""];
  let server: ChildProcess;

  async function start(): Promise<void> {
    server = spawn(EXECUTABLE, [...common, "--appendonly", ...aof, ...args], {
      stdio: "ignore",
      env: { ...process.env, ...env },
    });
    server.on("error", () => {}); // told by the wait below
    await answering(port, server);
  }

  async function stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const exited = once(server, "exit");
    server.kill("SIGCONT"); // one that is paused takes no other signal
    server.kill(signal);
    await exited;
  }

  const empty = () => rmSync(join(folder, "appendonlydir"), { recursive: true, force: true });
  await start();
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    get pid() {
      return server.pid as number;
    },
    stop,
    async start({ data = "kept" } = {}) {
      if (data === "lost") empty();
      await start();
    },
    async close() {
      await stop("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}

/** Waits until PING is answered with PONG: while it loads its data, it is not. */
export async function answering(port: number, server: ChildProcess): Promise<void> {
  for (const end = Date.now() + 10_000; Date.now() < end; ) {
    if (server.exitCode !== null || server.pid === undefined) break;
    const pong = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => socket.write("PING\r\n"));
      socket.on("data", (data) => {
        resolve(data.toString().startsWith("+PONG"));
        socket.destroy();
      });
      socket.on("error", () => resolve(false));
      socket.on("close", () => resolve(false));
    });
    if (pong) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`${EXECUTABLE} does not answer on port ${port}`);
}
