import { appendFileSync } from "node:fs";
import type { Logger } from "@org/workflow-monitor";

/** What a process of the cluster tells unasked. */
export type Told =
  | { tell: "update"; update: ToldUpdate }
  /** An append timed out, and is looked up before it is tried again. */
  | { tell: "unknown outcome"; jobId: string }
  | { tell: "error"; message: string };

/** A revision that a publisher appended, or found to be stored. */
export interface ToldUpdate {
  jobId: string;
  cursor: { epoch: string; revision: number };
  event: { type: string; stage?: string; id?: string; message?: string | null };
  run: number;
  /** The job's, when it is over. */
  end: string | null;
  /** The terminal status of the event's stage. */
  stageEnd: string | null;
}

export const tell = (told: Told): void => {
  process.send?.(told);
};

/** Writes to a file, which is still there after a SIGKILL, and tells of errors. */
export function fileLogger(file: string): Logger {
  const write = (level: string) => (context: Record<string, unknown>, message: string) => {
    const { err, ...rest } = context;
    const cause = err instanceof Error ? err.message : err;
    const line = [new Date().toISOString(), level, message, JSON.stringify(rest), cause ?? ""];
    appendFileSync(file, `${line.join(" ")}\n`);
    if (level === "error") tell({ tell: "error", message: line.slice(2).join(" ") });
    if (message === "append failed: looking it up")
      tell({ tell: "unknown outcome", jobId: String(context.jobId) });
  };
  return {
    debug: write("debug"),
    info(context, message) {
      if (message !== "viewer disconnected") write("info")(context, message);
    },
    warn: write("warn"),
    error: write("error"),
  };
}
