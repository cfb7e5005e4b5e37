import type { WatchRequest, WorkflowMonitor } from "@org/workflow-monitor";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Static } from "typebox";
import { noneMatch } from "./conditional.js";
import { documented, failures, jobParams, jobSnapshot } from "./schemas.js";

/** Seconds after which a poller may ask again. */
const RETRY_AFTER = "2";

/** `GET /jobs/:id`: the job as it is now. */
export function pollRoute(app: FastifyInstance, { egress }: WorkflowMonitor, path: string): void {
  app.get<{ Params: Static<typeof jobParams> }>(
    `${path}/:id`,
    {
      schema: documented("A job as it is now", {
        params: jobParams,
        response: { 200: jobSnapshot, ...failures },
      }),
    },
    async (request, reply) => {
      const { etag, bytes, done } = await egress.read(new Poll(request, request.params.id));
      cacheHeaders(reply, etag);
      if (!done) reply.header("retry-after", RETRY_AFTER);
      if (noneMatch(request.headers["if-none-match"], etag)) return reply.code(304).send();
      // Bytes, not an object: encoded once a revision, and the same as in the frames.
      return reply.header("content-type", "application/json; charset=utf-8").send(bytes);
    },
  );
}

/**
 * What `authorize` is asked about a poll. Headers and address are looked up when the hook looks at
 * them: most need few. A class, since getters of a literal are made anew for each request.
 */
class Poll implements WatchRequest {
  readonly jobId: string;
  readonly action = "watch";
  readonly transport = "poll";
  readonly #request: FastifyRequest;

  constructor(request: FastifyRequest, jobId: string) {
    this.#request = request;
    this.jobId = jobId;
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

function cacheHeaders(reply: FastifyReply, etag: string): void {
  reply.header("etag", etag);
  reply.header("cache-control", "private, no-cache");
  reply.header("vary", "Authorization, Cookie");
}
