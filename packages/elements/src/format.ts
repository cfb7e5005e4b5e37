import type { Connection, JobSnapshot, StageSnapshot } from "@org/workflow-monitor-client";
import { attemptText, isActive, statusText } from "./status.js";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const two = (value: number): string => String(value).padStart(2, "0");

/**
 * A duration in milliseconds for people, with at most two units: `420 ms`, `3.4 s`, `2 min 05 s`,
 * `1 h 12 min`, `3 d 4 h`. `whole`: in whole seconds, as suits what goes on.
 */
export function formatDuration(durationMs: number, whole = false): string {
  const ms = Math.max(0, Math.round(durationMs));
  if (whole ? ms < MINUTE : ms >= 10 * SECOND && ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < SECOND) return `${ms} ms`;
  if (ms < MINUTE) return `${Math.floor(ms / 100) / 10} s`;
  if (ms < HOUR)
    return `${Math.floor(ms / MINUTE)} min ${two(Math.floor((ms % MINUTE) / SECOND))} s`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h ${two(Math.floor((ms % HOUR) / MINUTE))} min`;
  return `${Math.floor(ms / DAY)} d ${Math.floor((ms % DAY) / HOUR)} h`;
}

interface Span {
  startedAt: string | null;
  finishedAt: string | null;
}

/** How long it took, or has taken by `now` (milliseconds since 1970); null: it has not begun. */
export function durationOf({ startedAt, finishedAt }: Span, now: number): string | null {
  if (startedAt === null) return null;
  const end = finishedAt === null ? now : Date.parse(finishedAt);
  return formatDuration(end - Date.parse(startedAt), finishedAt === null);
}

/** Seconds until the next try, at least 1; null when none is planned. */
const secondsUntil = (retryAt: number | null, now: number): number | null =>
  retryAt === null ? null : Math.max(1, Math.ceil((retryAt - now) / SECOND));

/** What the chip says. */
export function connectionText({ state, cause, retryAt, stale }: Connection, now: number): string {
  switch (state) {
    case "connecting":
      return "Connecting …";
    case "live":
      return stale ? "Live, may be old" : "Live";
    case "polling":
      return stale ? "Polling, may be old" : "Polling";
    case "reconnecting": {
      if (cause?.code === "unknown_job") return "Waiting for the job"; // the line is fine
      const seconds = secondsUntil(retryAt, now);
      return seconds === null ? "Reconnecting …" : `Reconnecting in ${seconds} s`;
    }
    case "offline":
      return "Offline";
    case "ended":
      return "Ended";
    case "failed":
      return "Failed";
  }
}

/** `60 %`, or nothing when nobody knows. */
export const percentText = ({ progress, indeterminate }: StageSnapshot | JobSnapshot): string =>
  indeterminate ? "" : `${progress} %`;

const isSaid = (part: string): boolean => part !== "";

/** What a stage's picture leaves out: what it waits for, its message and its error. */
export const stageRest = ({ dependsOn, message, error }: StageSnapshot): string =>
  [dependsOn.length > 0 ? `after ${dependsOn.join(", ")}` : "", message ?? "", error?.message ?? ""]
    .filter(isSaid)
    .join(", ");

/** The stage in a sentence, for those who do not see its shape: `Build: running, 60 %, attempt 2 of 3, after Fetch`. */
export function stageSentence(stage: StageSnapshot, now: number): string {
  const parts = [
    statusText(stage),
    isActive(stage.status) ? percentText(stage) : "",
    attemptText(stage),
    durationOf(stage, now) ?? "",
    stageRest(stage),
  ];
  return `${stage.name}: ${parts.filter(isSaid).join(", ")}`;
}

/** What is told of a job when it changes: its status, and where it is; never each percent. */
export function jobSentence(job: JobSnapshot): string {
  const name = job.name ?? job.jobId;
  const current = job.stages.find(({ stage }) => stage === job.currentStage);
  if (!current) return `${name}: ${statusText(job)}`;
  const attempt = current.attempt > 1 ? `, ${attemptText(current)}` : "";
  return `${name}: ${statusText(job)}. ${current.name}: ${current.status}${attempt}`;
}
