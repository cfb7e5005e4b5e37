import type { ErrorCode } from "@org/workflow-monitor/protocol";

/** The server's codes, and what a viewer finds out by itself. */
export type ClientErrorCode =
  | ErrorCode
  | "unreachable" // nothing answers at the url, or the line is cut or silent
  | "unauthorized" // 401: the token is missing, wrong or too old
  | "forbidden" // 403: from the host's own checks
  | "bad_answer" // something answers, but no workflow monitor: a wrong path, a proxy's page
  | "token_failed" // the `token` function threw
  | "closed"; // the watch or the client was closed before the job was over

export interface ClientErrorDetails {
  jobId?: string;
  /** Whether the client goes on trying. Default false. */
  retryable?: boolean;
  /** What the server asked to wait before the next try, in milliseconds. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** Why a job cannot be watched. `message` says what failed and what to do; tell errors apart by `code`. */
export class MonitorClientError extends Error {
  override readonly name = "MonitorClientError";
  readonly code: ClientErrorCode;
  readonly jobId: string | undefined;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;

  constructor(code: ClientErrorCode, message: string, details: ClientErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.jobId = details.jobId;
    this.retryable = details.retryable ?? false;
    this.retryAfterMs = details.retryAfterMs;
  }
}
