import type { WorkflowMonitorError } from "./errors.js";
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
   * What this epoch was built on: cursors of former epochs whose state its base contains. Left out
   * when it began empty.
   */
  carried?: Cursor[];
  /**
   * The job's time to read is over (SPEC R15). Viewers get "unknown"; publishers still learn which
   * run has ended, so that a late event does not bring it back.
   */
  expired?: boolean;
}

/** What `follow` tells: a batch, and the cursor after it. */
export interface Announced {
  cursor: Cursor;
  /** None: there may be something to read. Followers believe revisions, and check a cursor without them by reading. */
  revisions: Revision[];
  /** The batch's id. */
  id: string;
}

export interface JobQuery {
  status?: Status;
  /** Only jobs that have all of these. */
  labels?: Record<string, string>;
  /** Most rows of the page. */
  limit: number;
  /** `next` of the page before. Opaque. */
  cursor?: string;
}

export interface JobPage {
  /** Newest first, by (createdAt, jobId). */
  jobs: JobSummary[];
  /** `cursor` of the next page; null: this was the last one. Only that says so: a page may be short. SPEC D14. */
  next: string | null;
}

/** A place in the list, which is ordered by (createdAt, jobId): that of a row, or one between two. */
export interface ListPlace {
  createdAt: string;
  jobId: string;
}

/** What a store is asked for: the cursor of the page is a place here. */
export interface ListQuery extends Omit<JobQuery, "cursor"> {
  /** Only jobs behind this place, which are older. Default: from the newest on. */
  after?: ListPlace;
}

/** A part of the list. */
export interface ListSlice {
  /** Newest first, by (createdAt, jobId). */
  jobs: JobSummary[];
  /** Where to go on; null: no job comes after these. */
  next: ListPlace | null;
  /** An error for each job that belongs here and cannot be read. */
  damaged?: readonly WorkflowMonitorError[];
}

/**
 * Where logs live. Knows neither engines nor viewers. `storeContract` of `./testing` proves an
 * implementation.
 *
 * An epoch is one life of a stored log. A store that lost a log, or may have, shows what it still has
 * as the base of a new epoch; a publisher that knows more carries its own state into another one. The
 * log is gone then, the job's state is not.
 *
 * A store that is away, or refuses a call for now, rejects with any error, best a WorkflowMonitorError of code
 * `unavailable` whose message tells the operator what to do: publishers wait and try again. A job whose stored
 * data cannot be read is `damaged`, an error that names it and says how to repair it: it costs that job only.
 * SPEC R20.
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
   * (null: when there is a log). With a `base` and no log, or with a batch that carries a job over, a
   * new epoch begins on top of the batch's job. Stored and announced, or neither; a rejection means
   * that nobody knows which.
   */
  append(jobId: string, base: Cursor | null, batch: Batch): Promise<Cursor | false>;
  /**
   * The cursor after a batch, by its id; undefined when it is not among the last 64 of the job: how
   * one of unknown outcome is looked up.
   */
  find(jobId: string, batchId: string): Promise<Cursor | undefined>;
  /**
   * Resolves when live: what is appended afterwards is announced. May lose, repeat or reorder. Viewers get the
   * revisions as they are announced, so a store passes on only those that come from a writer of the log, and
   * leaves them out otherwise. It may need a read of the epoch, after `follow` resolved, to know its writers. SPEC
   * D13. The function that it resolves to stops it.
   */
  follow(jobId: string, listener: (batch: Announced) => void): Promise<() => void>;
  /**
   * Tells at once, and at each change, whether the store is there: after a false, announcements may
   * have got lost. The returned function ends that. Left out: it always is.
   */
  connection?(listener: (there: boolean) => void): () => void;
  /**
   * A part of the list. One call looks at a bounded number of jobs (some 1,000): it may have fewer rows than
   * `limit`, and none at all, although `next` says that more may come.
   */
  list?(query: ListQuery): Promise<ListSlice>;
  /**
   * At least 32 random bytes, the same for all nodes of this store, made when first asked for: a page's
   * cursor is sealed with them. Asked for at each page. Left out: each monitor has its own, and a cursor
   * works on the node that made it.
   */
  secret?(): Promise<Uint8Array>;
  /** What it holds in this process, in bytes of memory. Left out: nothing worth counting. */
  storedBytes?(): number;
  /** An end-to-end ping, for readiness; rejects when the store is away. */
  health?(): Promise<void>;
  /** Idempotent. */
  close(): Promise<void>;
}
