import type { Transport, WatchRequest } from "@org/workflow-monitor";
import type { FastifyRequest } from "fastify";
import { Type } from "typebox";

/**
 * What `authorize` is asked about a request. Headers and address are looked up when the hook looks at
 * them: most need few. A class, since getters of a literal are made anew for each request.
 */
export class JobRequest implements WatchRequest {
  readonly jobId: string;
  readonly action = "watch";
  readonly transport: Transport;
  readonly #request: FastifyRequest;

  constructor(request: FastifyRequest, jobId: string, transport: Transport) {
    this.#request = request;
    this.jobId = jobId;
    this.transport = transport;
  }

  get headers(): WatchRequest["headers"] {
    return this.#request.headers;
  }

  get query(): WatchRequest["query"] {
    return this.#request.query as WatchRequest["query"];
  }

  get remoteAddress(): string {
    return this.#request.ip;
  }
}

/** `?wait`, in seconds. */
export const wait = Type.Optional(
  Type.Number({
    minimum: 0,
    description: "seconds to wait for something new; at most 25 are waited",
  }),
);

const MOST_WAIT_S = 25;

/** How long a poll waits: jittered, so that those who began together do not come back together. */
export const waitMs = (seconds = 0): number =>
  Math.min(seconds, MOST_WAIT_S) * 1_000 * (0.8 + 0.2 * Math.random());
