import type { Status } from "@org/workflow-monitor-client";
import { isStatus } from "./job.js";

/** What the process ends with. README.md has the table. */
export const ExitCode = {
  completed: 0,
  failed: 1,
  /** Cancelled or skipped: nothing went wrong, but the work was not done. */
  cancelled: 2,
  /** There is no such job, no server, or no right to see it. */
  notWatched: 3,
  /** EX_USAGE of sysexits.h: the command line makes no sense. */
  usage: 64,
  // 128 and the number of the signal, as shells say it.
  hangup: 129,
  interrupted: 130,
  brokenPipe: 141,
  terminated: 143,
} as const;

/** The exit code that a job's end stands for. */
export function exitCodeOf(status: Status): number {
  if (status === "completed") return ExitCode.completed;
  if (status === "failed") return ExitCode.failed;
  // A server whose host gives jobs another shape may not tell how one ended.
  return isStatus(status) ? ExitCode.cancelled : ExitCode.notWatched;
}
