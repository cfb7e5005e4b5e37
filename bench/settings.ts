import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const here = fileURLToPath(new URL(".", import.meta.url));

/** How much is measured. */
export interface Settings {
  viewers: number;
  /** How often all processes are started anew: one process may be lucky with its memory. */
  lives: number;
  /** In each life: every subject once, side by side. */
  rounds: number;
  /** In each round: updates of one a tick, bursts, requests. */
  updates: number;
  bursts: number;
  requests: number;
  /** The built file of a child process. */
  file(name: "server" | "viewers" | "poller"): string;
  /** Where a CPU profile goes; undefined: nowhere. */
  profile(name: string): string | undefined;
}

const FULL = { viewers: 2_000, lives: 2, rounds: 8, updates: 15, bursts: 1, requests: 3_000 };
const QUICK = { viewers: 200, lives: 1, rounds: 2, updates: 10, bursts: 2, requests: 800 };

/** Throws for an argument that it does not know. */
export function readSettings(args: readonly string[]): Settings & { write: boolean } {
  const known = ["--quick", "--write", "--profile"];
  const unknown = args.find((arg) => !known.includes(arg));
  if (unknown) throw new Error(`${unknown} is none of ${known.join(", ")}.`);
  const profiles = join(here, "results", "tmp");
  const profiling = args.includes("--profile");
  if (profiling) mkdirSync(profiles, { recursive: true });
  return {
    ...(args.includes("--quick") ? QUICK : FULL),
    ...(profiling && { lives: 1, rounds: 2 }),
    write: args.includes("--write"),
    file: (name) => join(here, "dist", `${name}.js`),
    profile: (name) => (profiling ? join(profiles, `${name}.cpuprofile`) : undefined),
  };
}
