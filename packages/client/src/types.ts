import type {
  JobSnapshot,
  JobSummary,
  Status,
  WorkflowEvent,
} from "@org/workflow-monitor/protocol";
import type { MonitorClientError } from "./errors.js";

/** The ways to a job, best first. */
export type ClientTransport = "ws" | "sse" | "poll";

/**
 * How a watch is connected. `connecting`: for the first time. `live`: every update comes as it
 * happens. `polling`: as soon as the server is asked, because nothing better gets through.
 * `reconnecting`: the line is lost, or never was there, and is tried again at `retryAt`. `offline`:
 * the browser says that there is no network. `ended`: the job is over. `failed`: given up, see `cause`.
 */
export type ConnectionState =
  | "connecting"
  | "live"
  | "polling"
  | "reconnecting"
  | "offline"
  | "ended"
  | "failed";

export interface Connection {
  readonly state: ConnectionState;
  /** What is used or tried; null when nothing is. */
  readonly transport: ClientTransport | null;
  /** Why it is not live; null while it is. */
  readonly cause: MonitorClientError | null;
  /** When the next try begins, in milliseconds since 1970; null: one is under way, or there will be none. */
  readonly retryAt: number | null;
  /** The server has lost its store: what is shown may be old. */
  readonly stale: boolean;
}

/** What `JobWatch.on` tells of. What a listener throws is uncaught, as with the platform's events, and stops no other. */
export interface WatchListeners {
  /**
   * The job has changed; once at the beginning. `resumed` false: it is the first state, or the
   * server's history did not reach back, and events between are unknown.
   */
  change: (job: JobSnapshot, info: { resumed: boolean }) => void;
  /**
   * Each event of the job since the first snapshot (or since `after`), once, in order. A server whose host
   * shapes jobs (`present`) tells only that it happened and when: `{ type: "job", timestamp }`.
   */
  event: (event: WorkflowEvent, info: { cursor: string }) => void;
  /** The job is over: once, with its last state. Nothing follows. */
  done: (job: JobSnapshot) => void;
  /** The connection has changed, or the countdown to its next try has begun. */
  connection: (connection: Connection) => void;
}

/**
 * One viewer of one job. As an iterable: the newest state, again whenever it has changed (a slow
 * loop skips states, never the last); ends with the terminal state, throws when the watch has
 * failed; leaving the loop closes the watch.
 */
export interface JobWatch extends AsyncIterable<JobSnapshot> {
  readonly jobId: string;
  /** null until the first has come. */
  readonly snapshot: JobSnapshot | null;
  readonly connection: Connection;
  /** Returns a function that ends it. */
  on<E extends keyof WatchListeners>(event: E, listener: WatchListeners[E]): () => void;
  /** The terminal state. Rejects with a `MonitorClientError` when the watch has failed or was closed. */
  finished(): Promise<JobSnapshot>;
  /** Stops watching. Idempotent. */
  close(): void;
}

export interface WatchOptions {
  /** Stops watching when it is aborted. */
  signal?: AbortSignal;
  /** A cursor: begins with the events after it. Of a job that this client watches already, with the present state. */
  after?: string;
}

export interface JobQuery {
  status?: Status;
  /** `key:value`. */
  label?: string;
  /** 1–200, default 50. */
  limit?: number;
  /** `next` of the page before. */
  cursor?: string;
}

export interface JobPage {
  /** Newest first. */
  jobs: JobSummary[];
  /** null: this is the last page. */
  next: string | null;
}

export interface MonitorClient {
  /** Watches a job, from now on. Watches of one job share one subscription, all of them one connection. */
  watch(jobId: string, options?: WatchOptions): JobWatch;
  /** The job as it is now. Rejects with a `MonitorClientError`. */
  get(jobId: string, options?: { signal?: AbortSignal }): Promise<JobSnapshot>;
  /** A page of jobs. Rejects with a `MonitorClientError`. */
  list(query?: JobQuery, options?: { signal?: AbortSignal }): Promise<JobPage>;
  /** Closes every watch and the connection. Idempotent. */
  close(): void;
}
