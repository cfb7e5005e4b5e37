import type { Clock, Output } from "./view.js";

/** What the program has of its process. */
export interface Io {
  stdout: Output & { hasColors?(): boolean };
  stderr: Output;
  env: NodeJS.ProcessEnv;
  clock: Clock;
  /** Aborted when it has to stop, with the exit code as its reason. */
  signal: AbortSignal;
}
