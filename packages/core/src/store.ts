import type { Batch, Cursor, Revision } from "./revision.js";
import type { JobState, JobSummary } from "./snapshot.js";
import type { Status } from "./status.js";

/** What a store knows of a job: one consistent cut. */
export interface JobRecord {
  /** The head of the log. */
  cursor: Cursor;
  /** The state at the head; left out when the reader's `after` is the head. */
  job?: JobState;
  /**
   * The newest events after `after`, as JSON texts, oldest first, the last one at the head: all of
   * them, or as many as history still has. Left out when `after` was not given.
   */
  events?: string[];
  /**
   * The last batches in history, oldest first, at most 64: how a batch of unknown outcome is found.
   * Left out when `after` was not given.
   */
  batchIds?: string[];
  /**
   * The job's time to read is over (SPEC R15). Viewers get "unknown"; publishers still learn which
   * run has ended, so that a late event does not bring it back.
   */
  expired?: boolean;
}

/** What `follow` tells: the batch, and the cursor after it. */
export interface Announced {
  cursor: Cursor;
  revisions: Revision[];
  /** The batch's id. */
  id: string;
}

/** `lost` and `restored` tell of the store's connection. */
export type Note = Announced | "lost" | "restored";

export interface JobQuery {
  status?: Status;
  /** Only jobs that have all of these. */
  labels?: Record<string, string>;
  /** Most rows of the page. */
  limit: number;
  /** `next` of the page before. */
  cursor?: string;
}

export interface JobPage {
  /** Newest first, by (createdAt, jobId). */
  jobs: JobSummary[];
  /** Where the next page begins; null: this was the last one. */
  next: string | null;
}

/**
 * Where logs live. Knows neither engines nor viewers. `storeContract` of `./testing` proves an
 * implementation.
 *
 * An epoch is one life of a stored log. A store that lost a log, or may have, opens a new epoch on
 * top of the job that the publisher's next batch carries: the log is gone, the job's state is not.
 */
export interface JobStore {
  /**
   * One consistent cut, never older than an acknowledged append; undefined: no such job. An `after`
   * of another epoch counts as `ORIGIN`. A store that has it in memory answers without a promise, and
   * polls are then answered in the turn in which they come.
   */
  read(jobId: string, after?: Cursor): JobRecord | undefined | Promise<JobRecord | undefined>;
  /**
   * Compare-and-append: the cursor after the batch, or false when the log is not at `base` any more
   * (null: when there is a log). With a `base` and no log, a new epoch begins. Stored and announced,
   * or neither; a rejection means that nobody knows which.
   */
  append(jobId: string, base: Cursor | null, batch: Batch): Promise<Cursor | false>;
  /**
   * Resolves when live: what is appended afterwards is announced. May lose, repeat or reorder, but
   * for `lost` and `restored`. The function that it resolves to stops it.
   */
  follow(jobId: string, listener: (note: Note) => void): Promise<() => void>;
  list?(query: JobQuery): Promise<JobPage>;
  /** An end-to-end ping, for readiness; rejects when the store is away. */
  health?(): Promise<void>;
  /** Idempotent. */
  close(): Promise<void>;
}
