import { refusals, WorkflowMonitorError } from "@org/workflow-monitor";
import type { FastifyError, FastifyReply } from "fastify";

/** Any error of a route as problem+json with a stable `code`: RFC 9457. Nothing of a stack or an inner message. */
export function sendProblem(
  reply: FastifyReply,
  thrown: FastifyError | WorkflowMonitorError,
): FastifyReply {
  const error = toError(thrown);
  const { httpStatus, retryable } = refusals[error.code];
  if (retryable) {
    reply.header("retry-after", Math.ceil((error.retryAfterMs ?? 1_000) / 1_000));
  }
  return reply
    .code(httpStatus)
    .header("content-type", "application/problem+json")
    .header("cache-control", "no-store")
    .send(
      JSON.stringify({
        type: "about:blank",
        title: error.code.replaceAll("_", " "),
        status: httpStatus,
        detail: error.message,
        code: error.code,
      }),
    );
}

function toError(thrown: FastifyError | WorkflowMonitorError): WorkflowMonitorError {
  if (thrown.name === "WorkflowMonitorError") return thrown as WorkflowMonitorError;
  const { validation, statusCode = 500, message } = thrown as FastifyError;
  if (validation || (statusCode >= 400 && statusCode < 500)) {
    return new WorkflowMonitorError("bad_request", message);
  }
  return new WorkflowMonitorError("internal", "The request failed.");
}
