import { startRedis } from "../test/support/redis.js";
import { start } from "./child.js";
import type { RecoveryCalls, ServerCalls } from "./messages.js";
import { beginning, type UpdateFrame } from "./payload.js";
import { tcpProxy } from "./proxy.js";
import type { Settings } from "./settings.js";
import type { Series } from "./stats.js";

/** Milliseconds beyond a client's own wait, of each round; and what was missed in all of them. */
export interface RecoveryResults {
  half: Series;
  p99: Series;
  missed: number;
}

/** All viewers of a node, when it is killed. */
export async function measureRecovery(
  settings: Settings,
  frame: UpdateFrame,
  log: (line: string) => void,
): Promise<RecoveryResults> {
  const results: RecoveryResults = { half: [], p99: [], missed: 0 };
  for (let round = -1; round < settings.recovery.rounds; round++) {
    log(`recovery: round ${round + 1}`);
    const redis = await startRedis();
    const setup = { frame, redis: redis.url };
    const worker = start<ServerCalls>(settings.file("server"));
    await worker.call("listen", { subject: "worker ours", ...setup });
    const nodes = [0, 1].map(() => start<ServerCalls>(settings.file("server")));
    const targets = await Promise.all(
      nodes.map((node) => node.call("listen", { subject: "node ours", ...setup })),
    );
    const proxy = await tcpProxy(targets.map(({ to }) => ("port" in to ? to.port : 0)));
    const clients = start<RecoveryCalls>(settings.file("recovery-clients"));
    await clients.call("watch", `http://127.0.0.1:${proxy.port}`, settings.recovery.viewers);
    await worker.call("update", 1, 1);
    nodes[0]?.kill();
    const updates = 40;
    await worker.call("pace", 2, updates, 20, 20); // while they come back
    const times = (await clients.call("recovered")).toSorted((one, other) => one - other);
    const missed = await clients.call("missed", beginning().length + 1 + updates);
    if (round >= 0) {
      results.half.push(times[Math.floor(times.length / 2)] as number);
      results.p99.push(times[Math.ceil(0.99 * times.length) - 1] as number);
      results.missed += missed;
    }
    clients.stop();
    proxy.close();
    nodes[1]?.stop();
    worker.stop();
    await redis.close();
  }
  return results;
}
