import { type Child, start } from "./child.js";
import type { PollerCalls, PollSubject, PollTarget, ServerCalls, Target } from "./messages.js";
import type { UpdateFrame } from "./payload.js";
import type { Settings } from "./settings.js";
import type { Series } from "./stats.js";

const SUBJECTS: readonly PollSubject[] = ["ours", "bare"];
const CONNECTIONS = 16;

/** Microseconds of the server's CPU for each request, and requests a second. */
export interface PollCosts {
  cpu: Series;
  rate: Series;
  bytes: number;
}
/** `ok`: 200 with the job; `unchanged`: 304. */
export type PollKind = "ok" | "unchanged";
export type PollResults = Record<PollSubject, Record<PollKind, PollCosts>>;

/** Measurement 4: `GET /jobs/:id`. */
export async function measurePolls(
  settings: Settings,
  frame: UpdateFrame,
  log: (line: string) => void,
): Promise<PollResults> {
  const results: PollResults = { ours: emptyKinds(), bare: emptyKinds() };
  for (let life = 0; life < settings.lives; life++) {
    log(`polls, life ${life + 1} of ${settings.lives}`);
    const poller = start<PollerCalls>(settings.file("poller"));
    const servers: { subject: PollSubject; server: Child<ServerCalls>; at: Target }[] = [];
    for (const subject of SUBJECTS) {
      const server = start<ServerCalls>(settings.file("server"));
      const at = await server.call("listen", { subject: `poll ${subject}`, frame });
      servers.push({ subject, server, at });
    }
    for (let round = -1; round < settings.rounds; round++) {
      const order = round % 2 === 0 ? servers : servers.toReversed();
      for (const kind of ["ok", "unchanged"] as const) {
        for (const { subject, server, at } of order) {
          // The first round is to warm up.
          const costs = round < 0 ? undefined : results[subject][kind];
          const target = {
            to: at.to,
            path: at.path,
            connections: CONNECTIONS,
            requests: settings.requests,
            conditional: kind === "unchanged",
          };
          const file = settings.profile(`${subject}-poll-${kind}`);
          if (file) await server.call("profile", null);
          await poll(server, poller, target, costs);
          if (file) await server.call("profile", file);
        }
      }
    }
    for (const { server } of servers) server.stop();
    poller.stop();
  }
  return results;
}

async function poll(
  server: Child<ServerCalls>,
  poller: Child<PollerCalls>,
  target: PollTarget,
  costs: PollCosts | undefined,
): Promise<void> {
  const before = await server.call("cpu");
  const { ms, status, bytes } = await poller.call("poll", target);
  const after = await server.call("cpu");
  if (status !== (target.conditional ? 304 : 200)) throw new Error(`The status was ${status}.`);
  if (!costs) return;
  const cpu = after.user + after.system - before.user - before.system;
  costs.cpu.push(cpu / target.requests);
  costs.rate.push((target.requests / ms) * 1_000);
  costs.bytes = bytes;
}

const emptyCosts = (): PollCosts => ({ cpu: [], rate: [], bytes: 0 });
const emptyKinds = () => ({ ok: emptyCosts(), unchanged: emptyCosts() });
