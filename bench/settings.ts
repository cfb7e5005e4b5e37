import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const here = fileURLToPath(new URL(".", import.meta.url));

export const MEASUREMENTS = [
  "fan-out",
  "sse",
  "polls",
  "publish",
  "catch-up",
  "latency",
  "memory",
  "page",
  "nodes",
  "across",
  "throughput",
  "recovery",
] as const;
export type Measurement = (typeof MEASUREMENTS)[number];

/** How much is measured. */
export interface Settings {
  viewers: number;
  /** How often all processes are started anew: one process may be lucky with its memory. */
  lives: number;
  /** In each life: every subject once, side by side. */
  rounds: number;
  /** In each round: updates of one a tick, in so many turns; bursts; requests. */
  updates: number;
  turns: number;
  bursts: number;
  requests: number;
  publish: { rounds: number; events: number };
  catchUp: { viewers: number; rounds: number };
  /** Viewers that do not read are on top of the healthy ones. */
  latency: { healthy: number; stalled: number; rounds: number; updates: number; everyMs: number };
  /** With all defaults, so long that those who stall may be closed for it. */
  memory: { stalled: number; megabytes: number; samples: number; leastSeconds: number };
  /** Each subject on a fresh page. */
  page: { rounds: number; warmUpMs: number; ms: number };
  /** Two nodes on one Redis. */
  across: { rounds: number; updates: number; everyMs: number };
  throughput: { rounds: number; events: number; inFlight: number };
  recovery: { rounds: number; viewers: number };
  /** The built file of a child process. */
  file(name: ChildName): string;
  /** Where a CPU profile goes; undefined: nowhere. */
  profile(name: string): string | undefined;
}

export const CHILDREN = [
  "server",
  "viewers",
  "poller",
  "publisher",
  "page-server",
  "redis-peer",
  "recovery-clients",
] as const;
export type ChildName = (typeof CHILDREN)[number];

const FULL = {
  viewers: 2_000,
  lives: 2,
  rounds: 8,
  updates: 20,
  turns: 5,
  bursts: 1,
  requests: 3_000,
  publish: { rounds: 15, events: 6_400 },
  catchUp: { viewers: 40, rounds: 7 },
  latency: { healthy: 450, stalled: 50, rounds: 5, updates: 60, everyMs: 60 },
  memory: { stalled: 500, megabytes: 100, samples: 20, leastSeconds: 45 },
  page: { rounds: 2, warmUpMs: 2_000, ms: 5_000 },
  across: { rounds: 9, updates: 200, everyMs: 5 },
  throughput: { rounds: 15, events: 12_800, inFlight: 128 },
  recovery: { rounds: 5, viewers: 200 },
};
const QUICK = {
  viewers: 200,
  lives: 1,
  rounds: 2,
  updates: 10,
  turns: 2,
  bursts: 2,
  requests: 800,
  publish: { rounds: 3, events: 1_280 },
  catchUp: { viewers: 20, rounds: 2 },
  latency: { healthy: 90, stalled: 10, rounds: 2, updates: 10, everyMs: 20 },
  memory: { stalled: 20, megabytes: 4, samples: 4, leastSeconds: 0 },
  page: { rounds: 1, warmUpMs: 200, ms: 500 },
  across: { rounds: 2, updates: 20, everyMs: 5 },
  throughput: { rounds: 2, events: 2_560, inFlight: 128 },
  recovery: { rounds: 1, viewers: 20 },
};

/** What the command line asks for. */
export interface Asked extends Settings {
  only: readonly Measurement[];
  write: boolean;
}

/** Throws for an argument that it does not know. */
export function readSettings(args: readonly string[]): Asked {
  const flags = ["--quick", "--write", "--profile", "--only"];
  const only: Measurement[] = [];
  args.forEach((arg, at) => {
    const name = MEASUREMENTS.find((name) => args[at - 1] === "--only" && name === arg);
    if (name) only.push(name);
    else if (!flags.includes(arg)) {
      throw new Error(`${arg}: know ${flags.join(", ")} (${MEASUREMENTS.join(", ")}).`);
    }
  });
  if (only.length !== args.filter((arg) => arg === "--only").length) {
    throw new Error(`--only needs one of ${MEASUREMENTS.join(", ")}.`);
  }
  const write = args.includes("--write");
  if (write && only.length > 0) throw new Error("--write needs every measurement.");
  const profiles = join(here, "results", "tmp");
  const profiling = args.includes("--profile");
  if (profiling) mkdirSync(profiles, { recursive: true });
  const amounts = args.includes("--quick") ? QUICK : FULL;
  return {
    ...amounts,
    ...(profiling && { lives: 1, rounds: 2, turns: 1, page: { ...amounts.page, rounds: 1 } }),
    only: only.length > 0 ? only : MEASUREMENTS,
    write,
    file: (name) => join(here, "dist", `${name}.js`),
    profile: (name) => (profiling ? join(profiles, `${name}.cpuprofile`) : undefined),
  };
}
