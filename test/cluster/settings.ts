/** How long the run takes, in seconds, and what it draws its faults from. */
export const SECONDS = Number(process.env.CLUSTER_SECONDS ?? 300);
export const SEED = Number(process.env.CLUSTER_SEED ?? 1);

export const NODES = 3;
export const PUBLISHERS = 3;
export const VIEWERS = 300;
/** At a time: those that all publishers race on, and those that each has for itself. */
export const JOBS = { shared: 4, own: 2 };

/** After so long without an answer, Redis is away. */
export const TIMEOUT_MS = 1_000;
/** Everything must be at rest so long after the last fault. */
export const REST_MS = 45_000;

/** What a process is told when it starts. */
export interface Opening {
  /** Url of Redis. */
  redis: string;
  /** The file that it logs to. */
  log: string;
}
