import { type Child, start } from "./child.js";
import type { ServerCalls, Target, ViewerCalls } from "./messages.js";
import type { UpdateFrame } from "./payload.js";
import type { Settings } from "./settings.js";
import type { Series } from "./stats.js";

/** Milliseconds from `publish` to a healthy viewer, at the 50th and the 99th percentile of each round. */
export type LatencyResults = Record<Crowd, { half: Series; p99: Series }>;
/** The same healthy viewers: alone, and with others that do not read. */
type Crowd = "alone" | "beside stalled";
const CROWDS: readonly Crowd[] = ["alone", "beside stalled"];

/** More than any kernel holds of what is not read. */
const MOST_TO_STALL = 20_000;

/** Do viewers that do not read delay those that do? */
export async function measureStalledLatency(
  settings: Settings,
  frame: UpdateFrame,
  log: (line: string) => void,
): Promise<LatencyResults> {
  const results: LatencyResults = {
    alone: { half: [], p99: [] },
    "beside stalled": { half: [], p99: [] },
  };
  const { healthy, stalled, rounds } = settings.latency;
  log(`latency: stalling ${stalled} viewers`);
  const viewers = start<ViewerCalls>(settings.file("viewers"));
  const rooms: Watched[] = [];
  for (const crowd of CROWDS) {
    const server = start<ServerCalls>(settings.file("server"));
    const target = await server.call("listen", { subject: "patient", frame });
    const room = { crowd, server, target, updates: 0, stalled: 0 };
    if (crowd === "beside stalled") await stall(room, viewers, stalled);
    await viewers.call("connect", crowd, target, healthy);
    rooms.push(room);
  }
  for (let round = -1; round < rounds; round++) {
    log(`latency: round ${round + 1}`);
    // By turns, so that what else happens on the machine happens to both.
    const order = round % 2 === 0 ? rooms : rooms.toReversed();
    const latencies = await Promise.all(
      order.map((room, turn) => measureRound(room, viewers, settings, turn / order.length)),
    );
    if (round < 0) continue; // to warm up
    order.forEach(({ crowd }, at) => {
      results[crowd].half.push(percentile(latencies[at] ?? [], 0.5));
      results[crowd].p99.push(percentile(latencies[at] ?? [], 0.99));
    });
  }
  viewers.stop();
  for (const { server } of rooms) server.stop();
  return results;
}

interface Watched {
  crowd: Crowd;
  server: Child<ServerCalls>;
  target: Target;
  updates: number;
  /** Viewers that do not read, all of them parked. */
  stalled: number;
}

/** Viewers that read their first snapshot and nothing after it; resolves when all of them are parked. */
async function stall(room: Watched, viewers: Child<ViewerCalls>, count: number): Promise<void> {
  await viewers.call("connect", "stalled", room.target, count, "snapshot");
  while ((await room.server.call("stats")).parked < count) {
    if (room.updates > MOST_TO_STALL) throw new Error("Viewers that do not read are not parked.");
    // One by one: many in one turn would be one small snapshot.
    for (let n = 0; n < 20; n++) {
      room.updates += 1;
      await room.server.call("update", room.updates, 1);
    }
  }
  room.stalled = count;
}

async function measureRound(
  room: Watched,
  viewers: Child<ViewerCalls>,
  settings: Settings,
  turn: number,
): Promise<number[]> {
  const { updates, everyMs, healthy } = settings.latency;
  await viewers.call("record", room.crowd, updates);
  const afterMs = everyMs * (1 + turn);
  const sentAt = await room.server.call("pace", room.updates + 1, updates, everyMs, afterMs);
  room.updates += updates;
  await viewers.call("expect", room.crowd, updates);
  const arrivals = await viewers.call("arrivals", room.crowd);
  const latencies = arrivals.flatMap((times, at) =>
    times.map((time) => time - (sentAt[at] as number)),
  );
  if (latencies.length !== updates * healthy) throw new Error("An update was not noted.");
  const { parked } = await room.server.call("stats");
  if (parked !== room.stalled) throw new Error(`${parked} viewers are parked.`);
  return latencies;
}

function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.ceil(share * sorted.length) - 1] as number;
}
