import type { Socket } from "node:net";
import {
  type JobQuery,
  type WatchRequest,
  type WorkflowMonitor,
  WorkflowMonitorError,
} from "@org/workflow-monitor";
import type {
  FastifyError,
  FastifyInstance,
  FastifyPluginAsync,
  FastifyReply,
  FastifyRequest,
  FastifySchema,
} from "fastify";
import type { Static } from "typebox";
import { noneMatch } from "./conditional.js";
import { sendProblem } from "./problem.js";
import { jobPage, jobParams, jobSnapshot, listQuery, problem } from "./schemas.js";

export interface WorkflowMonitorHttpOptions {
  monitor: WorkflowMonitor;
  /** Default `/jobs`. Fastify's `prefix` goes before it. */
  path?: string;
}

/** Seconds after which a poller may ask again. */
const RETRY_AFTER = "2";

/**
 * `GET /jobs/:id` and `GET /jobs` as a Fastify plugin. `app.close()` alone ends everything: the
 * monitor is drained before the server waits for its connections.
 */
export const workflowMonitorHttp: FastifyPluginAsync<WorkflowMonitorHttpOptions> = async (
  app,
  { monitor, path = "/jobs" },
) => {
  const { egress } = monitor;
  const errors = { "4xx": problem, "5xx": problem };

  app.setErrorHandler((error: FastifyError | WorkflowMonitorError, _request, reply) => {
    if (error.name === "WorkflowMonitorError")
      return sendProblem(reply, error as WorkflowMonitorError);
    if (!("validation" in error && error.validation)) throw error; // of a hook of the host: his to answer
    return sendProblem(reply, new WorkflowMonitorError("bad_request", error.message));
  });

  app.get<{ Params: Static<typeof jobParams> }>(
    `${path}/:id`,
    {
      schema: documented("A job as it is now", {
        params: jobParams,
        response: { 200: jobSnapshot, ...errors },
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

  app.get<{ Querystring: Static<typeof listQuery> }>(
    path,
    {
      schema: documented("Jobs, newest first", {
        querystring: listQuery,
        response: { 200: jobPage, ...errors },
      }),
    },
    async (request, reply) => {
      const { headers, query, ip: remoteAddress } = request;
      const asked = { headers, query, remoteAddress } as const;
      const page = await egress.list(
        { ...asked, jobId: null, action: "list", transport: "poll" },
        toQuery(query),
      );
      reply.header("cache-control", "private, no-cache").header("vary", "Authorization, Cookie");
      return page;
    },
  );

  endSilentSockets(app);
  app.addHook("preClose", async () => monitor.drain());
};

/** `summary` is known to `@fastify/swagger`'s types only, which hosts may do without. */
const documented = (summary: string, schema: FastifySchema): FastifySchema =>
  ({ summary, ...schema }) as FastifySchema;

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

function toQuery({ status, label = [], limit, cursor }: Static<typeof listQuery>): JobQuery {
  const labels = label.map((text) => {
    const colon = text.indexOf(":");
    return [text.slice(0, colon), text.slice(colon + 1)] as const;
  });
  if (new Set(labels.map(([key]) => key)).size !== labels.length) {
    throw new WorkflowMonitorError("bad_request", "A label has one value: name each key once.");
  }
  return {
    limit,
    labels: Object.fromEntries(labels),
    ...(status !== undefined && { status }),
    ...(cursor !== undefined && { cursor }),
  };
}

/**
 * Browsers connect in advance. On Node 20 `server.close()` waits for connections that have not sent a
 * whole request, until their headers time out after a minute: they are ended here. Upgraded sockets
 * have not sent a request either, but are somebody's: they have lost their HTTP parser.
 */
function endSilentSockets(app: FastifyInstance): void {
  const silent = new Set<Socket & { parser?: unknown }>();
  app.server.on("connection", (socket: Socket) => {
    silent.add(socket);
    socket.once("close", () => silent.delete(socket));
  });
  app.server.on("request", ({ socket }: { socket: Socket }) => silent.delete(socket));
  app.addHook("preClose", async () => {
    for (const socket of silent) if (socket.bytesRead === 0 || socket.parser) socket.destroy();
  });
}
