import type { Json, PublicError } from "./events.js";
import type { Status } from "./status.js";

/** One try of a stage that is over. */
export interface StageAttempt {
  attempt: number;
  status: Status;
  /** `superseded` when it was still active as the next one began. SPEC R10. */
  reason: string | null;
  startedAt: string | null;
  finishedAt: string | null;
}

export interface StageSnapshot {
  stage: string;
  name: string;
  status: Status;
  reason: string | null;
  /** Percent, whole, 0–100; never falls inside an attempt. */
  progress: number;
  /** Active without a known progress. */
  indeterminate: boolean;
  weight: number;
  dependsOn: string[];
  attempt: number;
  maxAttempts: number | null;
  allowFailure: boolean;
  /** Named by the plan, so that it stays when the job restarts. SPEC R3, R5. */
  planned: boolean;
  /** The last 10 that are over, oldest first. */
  attempts: StageAttempt[];
  startedAt: string | null;
  finishedAt: string | null;
  updatedAt: string;
  message: string | null;
  error: PublicError | null;
  metadata: Json | null;
}

export type Counts = { total: number } & Record<Status, number>;

/** The state of a job: the fold of its events so far. Times are ISO 8601 in UTC; absent is null. */
export interface JobState {
  jobId: string;
  name: string | null;
  /** Which run of the job, from 1. */
  run: number;
  status: Status;
  reason: string | null;
  /** The status is terminal. */
  done: boolean;
  /** A plan was declared. SPEC R7, R8. */
  planned: boolean;
  /** The status was concluded from the stages, not stated by the engine. SPEC R8. */
  derived: boolean;
  /** Percent, whole, 0–100; never falls inside a run; 100 only when completed. SPEC R7. */
  progress: number;
  /** Nobody knows how far it is. */
  indeterminate: boolean;
  /** SPEC R6. */
  currentStage: string | null;
  /** The first 20 in plan order; `counts` has the number. */
  activeStages: string[];
  counts: Counts;
  /** In plan order. */
  stages: StageSnapshot[];
  message: string | null;
  error: PublicError | null;
  labels: Record<string, string>;
  metadata: Json | null;
  createdAt: string;
  startedAt: string | null;
  finishedAt: string | null;
  updatedAt: string;
}

/** The state with its place in the log: one structure on every transport. */
export interface JobSnapshot extends JobState {
  epoch: string;
  revision: number;
}

/** A snapshot without its stages: a row of the list. */
export type JobSummary = Omit<JobSnapshot, "stages">;

/** The row of a job. Field by field, in their order: a rest and a spread would cost a hundred times as much. */
export function toSummary(
  job: JobState,
  { epoch, revision }: Pick<JobSnapshot, "epoch" | "revision">,
): JobSummary {
  return {
    jobId: job.jobId,
    name: job.name,
    run: job.run,
    status: job.status,
    reason: job.reason,
    done: job.done,
    planned: job.planned,
    derived: job.derived,
    progress: job.progress,
    indeterminate: job.indeterminate,
    currentStage: job.currentStage,
    activeStages: job.activeStages,
    counts: job.counts,
    message: job.message,
    error: job.error,
    labels: job.labels,
    metadata: job.metadata,
    createdAt: job.createdAt,
    startedAt: job.startedAt,
    finishedAt: job.finishedAt,
    updatedAt: job.updatedAt,
    epoch,
    revision,
  };
}

/** The state before the first event: the base of a log. */
export function emptyJob(jobId: string, createdAt: string): JobState {
  return {
    jobId,
    name: null,
    run: 1,
    status: "pending",
    reason: null,
    done: false,
    planned: false,
    derived: true,
    progress: 0,
    indeterminate: true,
    currentStage: null,
    activeStages: [],
    counts: {
      total: 0,
      pending: 0,
      running: 0,
      waiting: 0,
      completed: 0,
      failed: 0,
      cancelled: 0,
      skipped: 0,
    },
    stages: [],
    message: null,
    error: null,
    labels: {},
    metadata: null,
    createdAt,
    startedAt: null,
    finishedAt: null,
    updatedAt: createdAt,
  };
}
