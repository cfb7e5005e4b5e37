/**
 * What can go wrong, as stable codes. The first five and `damaged` reach publishers (`publish` rejects with
 * them, `shortened` is only reported), the others and `damaged` reach viewers, as an `error` frame and a close code or as a problem document
 * (`protocol.ts` has the table).
 */
export type ErrorCode =
  | "refused" // the event is not valid: correct it, a retry will not help
  | "shortened" // the event was taken, but a part of it was cut, dropped or moved
  | "overloaded" // a queue or a limit is full: try again later
  | "conflict" // other publishers of this job won 64 times in a row
  | "closed" // the monitor is closed
  | "bad_request"
  | "unknown_job" // also the answer to those who may not see the job
  | "unsupported" // this store cannot do that
  | "unsupported_version"
  | "too_many_viewers"
  | "too_many_subscriptions" // jobs of one connection, or subscriptions a second
  | "too_many_requests" // HTTP requests or WebSocket messages of one connection
  | "subscribe_timeout" // a connection that watches nothing
  | "unavailable" // the store or `authorize` did not answer
  | "damaged" // what the store has of this job cannot be read: the operator has to repair it
  | "draining" // this node is going away
  | "internal";

/** Where an error belongs, for logs. */
export interface ErrorDetails {
  jobId?: string;
  stage?: string;
  /** How long to wait before another try, in milliseconds. */
  retryAfterMs?: number;
  cause?: unknown;
}

/**
 * The one error class. Tell errors apart by `code`, never by `instanceof`: an ESM and a CJS copy of
 * this package may live in one process.
 */
export class WorkflowMonitorError extends Error {
  override readonly name = "WorkflowMonitorError";
  readonly code: ErrorCode;
  readonly jobId: string | undefined;
  readonly stage: string | undefined;
  readonly retryAfterMs: number | undefined;

  /** @param message what failed and what to do, in one sentence; viewers may read it */
  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.jobId = details.jobId;
    this.stage = details.stage;
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** Any thrown value as a `WorkflowMonitorError`: ours as it is, a foreign one as `fallback`. */
export function toMonitorError(
  thrown: unknown,
  fallback: ErrorCode,
  message: string,
): WorkflowMonitorError {
  if (thrown instanceof Error && thrown.name === "WorkflowMonitorError") {
    return thrown as WorkflowMonitorError;
  }
  return new WorkflowMonitorError(fallback, message, { cause: thrown });
}

/** The answer to whoever asks for a job that is not there, and to whoever may not see it: no difference. */
export const unknownJob = (jobId: string): WorkflowMonitorError =>
  new WorkflowMonitorError("unknown_job", "There is no such job, or you may not see it.", {
    jobId,
  });

/** Why a viewer is sent away, or not let in, while this node goes. */
export const draining = (jobId?: string): WorkflowMonitorError =>
  new WorkflowMonitorError(
    "draining",
    "This server is going away: come back with your cursor.",
    jobId === undefined ? {} : { jobId },
  );

/** What becomes of events that come, or still wait, when the monitor has been closed. */
export const closedError = (): WorkflowMonitorError =>
  new WorkflowMonitorError("closed", "The monitor is closed.");
