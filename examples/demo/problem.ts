import { STATUS_CODES } from "node:http";
import type { FastifyError, FastifyInstance } from "fastify";

/** An answer that says what went wrong: RFC 9457. */
export class Problem extends Error {
  readonly statusCode: number;
  readonly code: string;

  constructor(statusCode: number, code: string, message: string) {
    super(message);
    this.statusCode = statusCode;
    this.code = code;
  }
}

/** Answers what is thrown as a problem document; says nothing of what is nobody's business. */
export function answerProblems(app: FastifyInstance): void {
  app.setErrorHandler((error: FastifyError, _request, reply) => {
    const { statusCode: status = 500, code, message } = error;
    const isOurs = error instanceof Problem;
    if (status === 503) reply.header("retry-after", 5);
    return reply
      .code(status)
      .type("application/problem+json")
      .send({
        type: "about:blank",
        title: STATUS_CODES[status],
        status,
        detail: isOurs || status < 500 ? message : "The request failed.",
        code: isOurs ? code : status < 500 ? "bad_request" : "internal",
      });
  });
}
