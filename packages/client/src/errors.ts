import type { ErrorCode } from "@org/workflow-monitor/protocol";

/** The server's codes, and what a viewer finds out by itself. */
export type ClientErrorCode =
  | ErrorCode
  | "unreachable" // nothing answers at the url, or the line is cut or silent
  | "unauthorized" // the token is missing, wrong or too old
  | "forbidden" // 403: from the host's own checks
  | "bad_answer" // something answers, but no workflow monitor: a wrong path, a proxy's page
  | "token_failed" // the function `token` has thrown
  | "closed"; // the watch or the client was closed before the job was over

export interface ClientErrorDetails {
  jobId?: string | undefined;
  /** Whether the client goes on trying. Default false. */
  retryable?: boolean;
  /** What the server asked to wait before the next try, in milliseconds. */
  retryAfterMs?: number | undefined;
  cause?: unknown;
}

/** Why a job cannot be watched. `message` says what failed and what to do; tell errors apart by `code`. */
export class MonitorClientError extends Error {
  override readonly name = "MonitorClientError";
  declare readonly code: ClientErrorCode;
  declare jobId: string | undefined;
  declare readonly retryable: boolean;
  /** What the server asked to wait before the next try, in milliseconds. */
  declare retryAfterMs: number | undefined;

  constructor(
    code: ClientErrorCode,
    message: string,
    { cause, jobId, retryable = false, retryAfterMs }: ClientErrorDetails = {},
  ) {
    super(message, { cause });
    Object.assign(this, { code, jobId, retryable, retryAfterMs });
  }
}

export const closedError = (): MonitorClientError =>
  new MonitorClientError("closed", "The watch is closed.");
