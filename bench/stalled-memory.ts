import { type Child, start } from "./child.js";
import type { Reads, ServerCalls, Target, ViewerCalls } from "./messages.js";
import type { UpdateFrame } from "./payload.js";
import type { Settings } from "./settings.js";

/** What stalls: nobody, viewers that are never closed for it, viewers under all defaults. */
export type StallCase = "nobody" | "patient" | "defaults";
export const STALL_CASES: readonly StallCase[] = ["nobody", "patient", "defaults"];

export interface StalledMemory {
  megabytes: number;
  /** Viewers that stalled; parked when all was published; gone at the end. */
  stalled: number;
  parked: number;
  left: number;
  /** RSS, and buffers alive, over those before anybody stalled, in MiB, against MB of events appended since. */
  samples: { appended: number; growth: number; buffers: number }[];
  seconds: number;
}
export type MemoryResults = Record<StallCase, StalledMemory>;

const MB = 1_000_000;
const MIB = 1024 * 1024;
/** Events a turn: what ingest takes in one. */
const BATCH = 64;
/** Between two viewers, so that each stalls at a revision of its own. */
const BETWEEN = 10;

/** Do viewers that do not read cost memory for as long as others publish? */
export async function measureStalledMemory(
  settings: Settings,
  frame: UpdateFrame,
  log: (line: string) => void,
): Promise<MemoryResults> {
  const results: Partial<MemoryResults> = {};
  for (const one of STALL_CASES) {
    log(`memory of stalled viewers: ${one}`);
    results[one] = await measureCase(one, settings, frame);
  }
  return results as MemoryResults;
}

async function measureCase(
  one: StallCase,
  settings: Settings,
  frame: UpdateFrame,
): Promise<StalledMemory> {
  const { stalled, megabytes, samples, leastSeconds } = settings.memory;
  const server = start<ServerCalls>(settings.file("server"));
  const viewers = start<ViewerCalls>(settings.file("viewers"));
  const subject = one === "defaults" ? "large" : "large and patient";
  const target = await server.call("listen", { subject, frame });
  const job = new Job(server, viewers, target);
  await job.watch();
  await job.publish(BATCH * BATCH); // to warm up
  const before = await server.call("memory");
  const { bytes } = await server.call("stats");
  const from = performance.now();
  const result: StalledMemory = {
    megabytes,
    stalled: 0,
    parked: 0,
    left: 0,
    samples: [],
    seconds: 0,
  };
  const sample = async () => {
    const after = await server.call("memory");
    const appended = ((await server.call("stats")).bytes - bytes) / MB;
    result.samples.push({
      appended,
      growth: (after.rss - before.rss) / MIB,
      buffers: (after.buffers - before.buffers) / MIB,
    });
    return appended;
  };
  if (one !== "nobody") {
    await job.stall(stalled);
    result.stalled = stalled;
  }
  const step = megabytes / samples;
  for (let appended = await sample(); appended < megabytes; appended = await sample()) {
    await job.publishMegabytes(step);
  }
  result.parked = await parkedOf(server, result.stalled);
  await job.assertDelivered();
  if (one === "defaults") {
    const wait = leastSeconds * 1_000 - (performance.now() - from);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, wait)));
  }
  result.seconds = (performance.now() - from) / 1_000;
  result.left = (await server.call("stats")).left;
  server.stop();
  viewers.stop();
  return result;
}

/** Who does not read is parked, or gone. */
async function parkedOf(server: Child<ServerCalls>, stalled: number): Promise<number> {
  const { parked, left } = await server.call("stats");
  if (parked + left < stalled) throw new Error(`${parked} viewers are parked, ${left} have left.`);
  return parked;
}

/** A large job, with one viewer who reads all of it. */
class Job {
  readonly #server: Child<ServerCalls>;
  readonly #viewers: Child<ViewerCalls>;
  readonly #target: Target;
  #updates = 0;

  constructor(server: Child<ServerCalls>, viewers: Child<ViewerCalls>, target: Target) {
    this.#server = server;
    this.#viewers = viewers;
    this.#target = target;
  }

  async watch(): Promise<void> {
    const { to, path, dialect } = this.#target;
    const delta: Target = { to, path: `${path}&mode=delta`, dialect };
    await this.#viewers.call("connect", "healthy", delta, 1);
  }

  /** One after another; most do not even read their first snapshot, so that each holds on to another one. */
  async stall(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      const reads: Reads = n % 5 === 0 ? "snapshot" : "nothing";
      await this.#viewers.call("connect", `stalled-${n}`, this.#target, 1, reads);
      await this.publish(BETWEEN);
    }
  }

  async publish(count: number): Promise<void> {
    for (let left = count; left > 0; left -= BATCH) {
      const batch = Math.min(BATCH, left);
      await this.#server.call("update", this.#updates + 1, batch);
      this.#updates += batch;
    }
  }

  async publishMegabytes(megabytes: number): Promise<void> {
    const { bytes } = await this.#server.call("stats");
    while ((await this.#server.call("stats")).bytes < bytes + megabytes * MB) {
      await this.publish(BATCH);
    }
  }

  async assertDelivered(): Promise<void> {
    await this.#viewers.call("expect", "healthy", this.#updates);
  }
}
