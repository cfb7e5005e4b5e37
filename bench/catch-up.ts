import { start } from "./child.js";
import type { CatchUpSubject, ServerCalls, ViewerCalls } from "./messages.js";
import type { UpdateFrame } from "./payload.js";
import type { Settings } from "./settings.js";
import type { Series } from "./stats.js";
import { MISSED } from "./subjects/catch-up.js";

const SUBJECTS: readonly CatchUpSubject[] = ["ours", "updates", "events"];
/** Viewers that come back at a time. */
export const AT_ONCE = 10;

/** For each viewer that comes back: microseconds of the server's CPU, and milliseconds until it has everything. */
export interface CatchUpCosts {
  cpu: Series;
  ms: Series;
}
export type CatchUpResults = Record<CatchUpSubject, CatchUpCosts>;

/** A viewer that missed a thousand updates comes back. */
export async function measureCatchUp(
  settings: Settings,
  frame: UpdateFrame,
  log: (line: string) => void,
): Promise<CatchUpResults> {
  const results: CatchUpResults = {
    ours: { cpu: [], ms: [] },
    updates: { cpu: [], ms: [] },
    events: { cpu: [], ms: [] },
  };
  const { viewers: count, rounds } = settings.catchUp;
  log("catch-up");
  const viewers = start<ViewerCalls>(settings.file("viewers"));
  const servers = await Promise.all(
    SUBJECTS.map(async (subject) => {
      const server = start<ServerCalls>(settings.file("server"));
      const target = await server.call("listen", { subject: `catch-up ${subject}`, frame });
      return { subject, server, target };
    }),
  );
  for (let round = -1; round < rounds; round++) {
    for (const { subject, server, target } of round % 2 === 0 ? servers : servers.toReversed()) {
      const file = settings.profile(`catch-up-${subject}`);
      if (file) await server.call("profile", null);
      const before = await server.call("cpu");
      const ms = await viewers.call("catchUp", target, count, MISSED, AT_ONCE);
      const after = await server.call("cpu");
      if (file) await server.call("profile", file);
      if (round < 0) continue; // to warm up
      results[subject].cpu.push((after.user + after.system - before.user - before.system) / count);
      results[subject].ms.push(ms / count);
    }
  }
  viewers.stop();
  for (const { server } of servers) server.stop();
  return results;
}
