import type { Status, StatusInput } from "./status.js";

/** Any JSON value. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** What viewers learn of an error: never a stack. SPEC R12. */
export interface PublicError {
  code: string;
  message: string;
}

/** ISO 8601 text, a Date, or milliseconds since 1970. */
export type TimestampInput = string | Date | number;

/** Percent 0–100, or `current` of `total`; without `total`, or null: active, but nobody knows how far. */
export type ProgressInput = number | { current: number; total?: number } | null;

/** An Error, its message, or anything with a message; null clears. */
export type ErrorInput = Error | string | { code?: string; message?: string } | null;

interface EventBase {
  /** At most 100 bytes percent-encoded. SPEC R13. */
  jobId: string;
  /** When it happened. Default: when it is emitted. SPEC R17. */
  timestamp?: TimestampInput;
  /** Idempotency key, at most 128 characters: seen before, the event changes nothing. SPEC R2. */
  id?: string;
  /** Which run of the job, from 1. Default: the current one; a higher one restarts the job. SPEC R3. */
  run?: number;
}

export interface PlannedStage {
  stage: string;
  /** For people. Default: the stage's id. */
  name?: string;
  /** Share of the job's progress, relative to the other stages. Default 1. SPEC R7. */
  weight?: number;
  dependsOn?: string[];
  /** A failure of this stage does not fail the job. Default false. SPEC R8. */
  allowFailure?: boolean;
  /** How often it may be tried. Default: not known, a failure is final. SPEC R8. */
  maxAttempts?: number;
}

/** "These are the stages of job X, in this order." */
export interface PlanEvent extends EventBase {
  name?: string | null;
  stages: PlannedStage[];
  labels?: Record<string, string> | null;
  metadata?: unknown;
}

/** "Job X is now S." */
export interface JobEvent extends EventBase {
  status?: StatusInput;
  reason?: string | null;
  /** Ignored once a plan was declared: then the stages tell. SPEC R7. */
  progress?: ProgressInput;
  message?: string | null;
  error?: ErrorInput;
  labels?: Record<string, string> | null;
  metadata?: unknown;
}

/** "Stage Y of job X is now S." Saying it twice changes nothing. */
export interface StageEvent extends EventBase {
  stage: string;
  status?: StatusInput;
  /** Which try of this stage, from 1. Default: the current one; a higher one starts it anew. SPEC R10. */
  attempt?: number;
  reason?: string | null;
  progress?: ProgressInput;
  message?: string | null;
  error?: ErrorInput;
  metadata?: unknown;
}

/** What `publish` takes: the engine's events, with the emitter's event name as `type`. */
export type PublishedEvent =
  | ({ type: "plan" } & PlanEvent)
  | ({ type: "job" } & JobEvent)
  | ({ type: "stage" } & StageEvent);

/** A stage as a plan event carries it after normalisation: every field is there. */
export interface NormalPlannedStage {
  stage: string;
  name: string;
  weight: number;
  dependsOn: string[];
  allowFailure: boolean;
  maxAttempts: number | null;
}

interface NormalBase {
  /** ISO 8601, UTC. */
  timestamp: string;
  id?: string;
  run?: number;
}

export interface NormalPlanEvent extends NormalBase {
  type: "plan";
  name?: string | null;
  stages: NormalPlannedStage[];
  labels?: Record<string, string> | null;
  metadata?: Json;
}

export interface NormalJobEvent extends NormalBase {
  type: "job";
  status?: Status;
  reason?: string | null;
  /** Whole percent, or null: not known. */
  progress?: number | null;
  message?: string | null;
  error?: PublicError | null;
  labels?: Record<string, string> | null;
  metadata?: Json;
}

export interface NormalStageEvent extends NormalBase {
  type: "stage";
  stage: string;
  status?: Status;
  attempt?: number;
  reason?: string | null;
  /** Whole percent, or null: not known. */
  progress?: number | null;
  message?: string | null;
  error?: PublicError | null;
  metadata?: Json;
}

/**
 * An engine event after normalisation, as it is stored and sent: stamped, copied, frozen, without
 * its job id (the log that it stands in knows that).
 */
export type WorkflowEvent = NormalPlanEvent | NormalJobEvent | NormalStageEvent;
