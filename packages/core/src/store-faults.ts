import { type ErrorCode, toMonitorError, WorkflowMonitorError } from "./errors.js";
import type { Clock, Logger } from "./host.js";

const REPEAT_MS = 60_000;
/** At most this many damaged jobs, and other faults, are reported a minute. */
const REPORTED = { jobs: 1_000, faults: 100 };
const DAMAGED_RETRY_MS = 30_000;

/** Answers of a store that say nothing about its state. */
const ORDINARY: ReadonlySet<ErrorCode> = new Set(["closed", "bad_request", "unsupported"]);

/**
 * Failed calls of the store, reported at a bounded rate: one log line when a fault begins and one a minute
 * while it lasts. A damaged job is reported to `error` listeners as well, once a minute for each job.
 */
export class StoreFaults {
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #onDamage: (error: WorkflowMonitorError) => void;
  readonly #jobs: Reports;
  readonly #faults: Reports;
  #troubled = false;

  constructor(logger: Logger, clock: Clock, onDamage: (error: WorkflowMonitorError) => void) {
    this.#logger = logger;
    this.#clock = clock;
    this.#onDamage = onDamage;
    this.#jobs = new Reports(REPORTED.jobs);
    this.#faults = new Reports(REPORTED.faults);
  }

  /** Reports what a call of the store threw. Returns it as a WorkflowMonitorError, `unavailable` for a foreign error. */
  note(thrown: unknown, jobId?: string): WorkflowMonitorError {
    const error = toMonitorError(thrown, "unavailable", "The store does not answer: try again.");
    if (ORDINARY.has(error.code)) return error;
    const { message, cause } = error;
    const now = this.#clock.monotonic();
    const job = jobId === undefined ? {} : { jobId };
    if (error.code === "damaged") {
      if (!this.#jobs.isDue(jobId ?? "", now)) return error;
      this.#logger.error({ ...job, code: error.code, err: error }, message);
      this.#onDamage(error);
    } else if (
      this.#faults.isDue(`${message} ${cause instanceof Error ? cause.message : ""}`, now)
    ) {
      this.#troubled = true;
      this.#logger.warn({ ...job, err: thrown }, `the store fails: ${message}`);
    }
    return error;
  }

  /**
   * Reports what a call of the store threw. Returns what viewers may read: the store's own words name keys and
   * settings, and stay in `cause`.
   */
  shown(thrown: unknown, jobId?: string): WorkflowMonitorError {
    const error = this.note(thrown, jobId);
    const details = { ...(jobId !== undefined && { jobId }), cause: error };
    if (error.code === "damaged") {
      const message = "The stored data of this job cannot be read: its operator has to repair it.";
      return new WorkflowMonitorError("damaged", message, {
        ...details,
        retryAfterMs: DAMAGED_RETRY_MS,
      });
    }
    if (error.code !== "unavailable") return error;
    return new WorkflowMonitorError(
      "unavailable",
      "The store does not answer: try again.",
      details,
    );
  }

  /** A call has succeeded that failed before. */
  over(): void {
    if (!this.#troubled) return;
    this.#troubled = false;
    this.#logger.info({}, "the store answers again");
  }
}

/** What was reported in the last minute. */
class Reports {
  readonly #most: number;
  /** When each one was, oldest first. */
  readonly #at = new Map<string, number>();

  constructor(most: number) {
    this.#most = most;
  }

  isDue(what: string, now: number): boolean {
    for (const [old, at] of this.#at) {
      if (now - at < REPEAT_MS) break;
      this.#at.delete(old);
    }
    if (this.#at.has(what) || this.#at.size >= this.#most) return false;
    this.#at.set(what, now);
    return true;
  }
}
