import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:net";
import { redisStore } from "@org/workflow-monitor-redis";
import type { Program } from "./supervisor.js";

/** A Redis: where it is, and how it is started if nobody runs one. */
export interface FoundRedis {
  url: string;
  program: Program | undefined;
}

const EXECUTABLE = process.env.REDIS_SERVER ?? "redis-server";
const PATIENCE_MS = 10_000;

/** The one at REDIS_URL, else one of our own, which keeps its data in `folder`. Rejects with a sentence that says what to do. */
export async function findRedis(folder: string): Promise<FoundRedis> {
  const given = process.env.REDIS_URL;
  if (given) {
    const answers = await answering(given, 2_000);
    if (!answers) throw new Error(`The Redis at REDIS_URL, ${given}, does not answer.`);
    return { url: given, program: undefined };
  }
  const { stdout } = spawnSync(EXECUTABLE, ["--version"], { encoding: "utf8" });
  const [, version] = /v=(\d+)/.exec(stdout ?? "") ?? [];
  if (Number(version ?? 0) < 7) {
    throw new Error(
      "No Redis 7: install redis-server (apt-get install redis-server, brew install redis), or set REDIS_URL to one that runs.",
    );
  }
  const port = await freePort();
  const url = `redis://127.0.0.1:${port}`;
  const place = ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", folder];
  // It keeps what it has acknowledged, so that it may be killed, too.
  const data = ["--save", "", "--appendonly", "yes"];
  return {
    url,
    program: {
      name: "redis",
      // In a group of its own: Ctrl-C is for the others, which need it for their goodbye.
      launch: () => spawn(EXECUTABLE, [...place, ...data], { detached: true, stdio: "ignore" }),
      async ready() {
        const answers = await answering(url, PATIENCE_MS);
        if (!answers) throw new Error(`${EXECUTABLE} does not answer.`);
      },
    },
  };
}

/** Whether what is said to a Redis is heard there. */
async function answering(url: string, timeoutMs: number): Promise<boolean> {
  const store = redisStore({ url, timeoutMs });
  try {
    await store.health?.();
    return true;
  } catch {
    return false;
  } finally {
    await store.close();
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}
