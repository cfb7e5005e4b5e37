import { refusals, type WorkflowMonitorError } from "@org/workflow-monitor";
import type { FastifyReply } from "fastify";
import { closeAfter } from "./closed.js";

/** An error of ours as problem+json with a stable `code`: RFC 9457. */
export function sendProblem(reply: FastifyReply, error: WorkflowMonitorError): FastifyReply {
  const { httpStatus, retryable } = refusals[error.code];
  if (retryable) reply.header("retry-after", Math.ceil((error.retryAfterMs ?? 1_000) / 1_000));
  if (error.code === "draining") closeAfter(reply);
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
