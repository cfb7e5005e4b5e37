import type { ErrorCode } from "./errors.js";
import { CloseCode } from "./protocol.js";

/** How a viewer is told of an error, on each transport. */
export interface Refusal {
  close: CloseCode;
  httpStatus: number;
  /** Whether the same request may succeed later. */
  retryable: boolean;
}

export const refusals: Readonly<Record<ErrorCode, Refusal>> = {
  refused: { close: CloseCode.badRequest, httpStatus: 400, retryable: false },
  shortened: { close: CloseCode.badRequest, httpStatus: 400, retryable: false },
  bad_request: { close: CloseCode.badRequest, httpStatus: 400, retryable: false },
  unknown_job: { close: CloseCode.unknownJob, httpStatus: 404, retryable: false },
  unsupported: { close: CloseCode.badRequest, httpStatus: 501, retryable: false },
  unsupported_version: { close: CloseCode.unsupportedVersion, httpStatus: 406, retryable: false },
  too_many_viewers: { close: CloseCode.tooMany, httpStatus: 429, retryable: true },
  too_many_subscriptions: { close: CloseCode.tooMany, httpStatus: 429, retryable: true },
  too_many_requests: { close: CloseCode.tooMany, httpStatus: 429, retryable: true },
  subscribe_timeout: { close: CloseCode.tooSlowToSubscribe, httpStatus: 408, retryable: true },
  overloaded: { close: CloseCode.overloaded, httpStatus: 503, retryable: true },
  conflict: { close: CloseCode.overloaded, httpStatus: 503, retryable: true },
  unavailable: { close: CloseCode.overloaded, httpStatus: 503, retryable: true },
  damaged: { close: CloseCode.internal, httpStatus: 500, retryable: true },
  draining: { close: CloseCode.restarting, httpStatus: 503, retryable: true },
  closed: { close: CloseCode.restarting, httpStatus: 503, retryable: true },
  internal: { close: CloseCode.internal, httpStatus: 500, retryable: true },
};
