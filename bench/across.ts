import { startRedis } from "../test/support/redis.js";
import { start } from "./child.js";
import type { RedisPeerCalls, ServerCalls, ViewerCalls } from "./messages.js";
import type { UpdateFrame } from "./payload.js";
import type { Settings } from "./settings.js";
import { type Series, spread } from "./stats.js";

/** Milliseconds, the median of each round. */
export interface AcrossResults {
  /** From `publish` to a viewer of the node that published, and of another one. */
  same: Series;
  other: Series;
  /** What the same update came later to the other node. */
  later: Series;
  /** From PUBLISH to its message, of two connections in one process. */
  bare: Series;
}

/** What the way to another node takes. */
export async function measureAcross(
  settings: Settings,
  frame: UpdateFrame,
  log: (line: string) => void,
): Promise<AcrossResults> {
  const results: AcrossResults = { same: [], other: [], later: [], bare: [] };
  const { rounds, updates, everyMs } = settings.across;
  const { url, close } = await startRedis();
  const viewers = start<ViewerCalls>(settings.file("viewers"));
  const peer = start<RedisPeerCalls>(settings.file("redis-peer"));
  await peer.call("open", url);
  const nodes = [0, 1].map(() => start<ServerCalls>(settings.file("server")));
  for (const [at, node] of nodes.entries()) {
    const target = await node.call("listen", { subject: "node ours", frame, redis: url });
    await viewers.call("connect", `${at}`, target, 1);
  }
  let sent = 0;
  for (let round = -1; round < rounds; round++) {
    log(`across: round ${round + 1}`);
    for (const at of ["0", "1"]) await viewers.call("record", at, updates);
    const times = await nodes[0]?.call("pace", sent + 1, updates, everyMs, everyMs);
    sent += updates;
    const [same = [], other = []] = await Promise.all(
      ["0", "1"].map(async (at) => {
        await viewers.call("expect", at, updates);
        return (await viewers.call("arrivals", at)).map(([first]) => first as number);
      }),
    );
    const echoes = await peer.call("echo", updates, everyMs);
    if (round < 0) continue; // to warm up
    const since = (arrivals: number[], from: readonly number[]) =>
      spread(arrivals.map((time, n) => time - (from[n] as number))).median;
    results.same.push(since(same, times ?? []));
    results.other.push(since(other, times ?? []));
    results.later.push(since(other, same));
    results.bare.push(spread(echoes).median);
  }
  viewers.stop();
  peer.stop();
  for (const node of nodes) node.stop();
  await close();
  return results;
}
