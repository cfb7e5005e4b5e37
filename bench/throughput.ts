import { startRedis } from "../test/support/redis.js";
import { start } from "./child.js";
import type { RedisPeerCalls } from "./messages.js";
import type { Settings } from "./settings.js";
import type { Series } from "./stats.js";

/** Events a second from one process. */
export type ThroughputResults = Record<"one" | "many", Record<"publish" | "xadd", Series>>;

/** Publishing through the Redis store, beside XADD of the same text in a pipeline. */
export async function measureThroughput(
  settings: Settings,
  log: (line: string) => void,
): Promise<ThroughputResults> {
  const { rounds, events, inFlight } = settings.throughput;
  const results: ThroughputResults = {
    one: { publish: [], xadd: [] },
    many: { publish: [], xadd: [] },
  };
  const redis = await startRedis();
  const peer = start<RedisPeerCalls>(settings.file("redis-peer"));
  await peer.call("open", redis.url);
  for (let round = -1; round < rounds; round++) {
    log(`throughput: round ${round + 1}`);
    for (const jobs of ["one", "many"] as const) {
      for (const way of ["publish", "xadd"] as const) {
        const perSecond = await peer.call("throughput", way, jobs, events, inFlight);
        if (round >= 0) results[jobs][way].push(perSecond);
      }
    }
  }
  peer.stop();
  await redis.close();
  return results;
}
