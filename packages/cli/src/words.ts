import type {
  Connection,
  JobSnapshot,
  JobSummary,
  StageSnapshot,
} from "@org/workflow-monitor-client";
import { printable } from "./text.js";

/** What a job is called. */
export const nameOf = ({ name, jobId }: JobSummary | JobSnapshot): string =>
  printable(name ?? "") || printable(jobId);

export const stageName = ({ name, stage }: StageSnapshot): string =>
  printable(name) || printable(stage);

/** `0:07`, `12:34`, `1:02:03`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const two = (value: number) => String(value).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${two(seconds % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
}

/** How long the job has been at it, or was; null before it has begun. */
export function elapsed({ startedAt, finishedAt }: JobSummary, now: number): string | null {
  if (startedAt === null) return null;
  return duration((finishedAt === null ? now : Date.parse(finishedAt)) - Date.parse(startedAt));
}

/** `attempt 2 of 3`; empty at the first. */
export function attemptWords(attempt: number, maxAttempts: number | null | undefined): string {
  if (attempt <= 1) return "";
  return `attempt ${attempt}${maxAttempts == null ? "" : ` of ${maxAttempts}`}`;
}

/** Why it is as it is, in the engine's words: the error of what failed, else the message, else the reason. */
export function why({
  status,
  reason,
  message,
  error,
}: Pick<JobSummary, "status" | "reason" | "message" | "error">): string {
  if (status === "failed" && error) return printable(error.message) || printable(error.code);
  return printable(message ?? "") || printable(reason ?? "").replaceAll("_", " ");
}

/** `3 completed, 1 running`: the statuses that there are, in the order of `counts`. */
export function countWords(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .filter(([status, count]) => status !== "total" && count > 0)
    .map(([status, count]) => `${count.toLocaleString("en")} ${status}`)
    .join(", ");
}

const transports = { ws: "over WebSocket", sse: "over server-sent events", poll: "" };

/** How the watch is connected, in words; `reconnecting in 3 s: …` when `now` is given. */
export function connectionWords(connection: Connection, now?: number): string {
  const { state, transport, cause, retryAt, stale } = connection;
  const words: string[] = [state === "failed" ? "not connected" : state];
  if (state === "live" && transport) words.push(` ${transports[transport]}`);
  if (state === "reconnecting" && retryAt !== null && now !== undefined) {
    words.push(` in ${Math.max(0, Math.ceil((retryAt - now) / 1_000))} s`);
  }
  if (cause) words.push(`: ${printable(cause.message)}`);
  if (stale) words.push(" (the server has lost its store: this may be old)");
  return words.join("");
}
