import type { JobSnapshot, StageSnapshot, Status } from "@org/workflow-monitor/protocol";
import type { MonitorClientError } from "../errors.js";
import type { Connection } from "../types.js";
import { isShallowEqual } from "./shallow.js";

/** What `useJob` tells of a job. T is what `select` makes of it. */
interface JobFields<T> {
  /** null until it has come. */
  readonly job: T | null;
  /** null until it has come. */
  readonly status: Status | null;
  /** Percent, whole; 0 until it has come. */
  readonly progress: number;
  /** In plan order; none until they have come. */
  readonly stages: readonly StageSnapshot[];
  readonly currentStage: string | null;
  /** The job is over: nothing follows. */
  readonly isDone: boolean;
  /** Why the job cannot be watched; null while it is tried. What delays it is in `connection.cause`. */
  readonly error: MonitorClientError | null;
  /** null: nothing is watched. */
  readonly connection: Connection | null;
}

export interface UseJobResult<T> extends JobFields<T> {
  /**
   * Watches again what has failed or ended; reads a job that is waited for past its connection. Does
   * nothing while nothing is watched.
   */
  readonly refetch: () => void;
}

export type Select<T> = ((job: JobSnapshot) => T) | undefined;

const NO_STAGES: readonly StageSnapshot[] = [];

function describe<T>(
  job: JobSnapshot | null,
  connection: Connection | null,
  selection: T | null,
): JobFields<T> {
  return {
    job: selection,
    status: job?.status ?? null,
    progress: job?.progress ?? 0,
    stages: job?.stages ?? NO_STAGES,
    currentStage: job?.currentStage ?? null,
    isDone: connection ? connection.state === "ended" : job?.done === true,
    error: connection?.state === "failed" ? connection.cause : null,
    connection,
  };
}

type Field = keyof JobFields<unknown>;

/**
 * Makes the fields from a job and its connection: the same object until a field is another that was
 * read before. A field that is read for the first time is the newest.
 */
export type Tracker<T> = (
  job: JobSnapshot | null,
  connection: Connection | null,
  select: Select<T>,
) => UseJobResult<T>;

export function createTracker<T>(refetch: () => void): Tracker<T> {
  const read = new Set<Field>();
  let from: readonly unknown[] = [];
  let current: { fields: JobFields<T>; readonly result: UseJobResult<T> } | null = null;

  function selectFrom(job: JobSnapshot | null, select: Select<T>): T | null {
    // Without `select`, T is the job.
    const next = job && (select ? select(job) : (job as unknown as T));
    const before = current?.fields.job ?? null;
    return select && isShallowEqual(before, next) ? before : next;
  }

  /** An object whose fields say when they are read. */
  function track(fields: JobFields<T>): NonNullable<typeof current> {
    const result = { refetch };
    const holder = { fields, result: result as UseJobResult<T> };
    for (const field of Object.keys(fields) as Field[]) {
      Object.defineProperty(result, field, {
        enumerable: true,
        get() {
          read.add(field);
          return holder.fields[field];
        },
      });
    }
    return holder;
  }

  return (job, connection, select) => {
    const source = [job, connection, select];
    if (current && source.every((value, i) => value === from[i])) return current.result;
    const fields = describe(job, connection, selectFrom(job, select));
    const before = current?.fields;
    from = source;
    if (current && before && [...read].every((field) => fields[field] === before[field])) {
      current.fields = fields;
    } else {
      current = track(fields);
    }
    return current.result;
  };
}
