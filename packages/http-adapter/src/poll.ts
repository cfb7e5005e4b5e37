import { type JobBody, parseCursor, type WorkflowMonitor } from "@org/workflow-monitor";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type Static, Type } from "typebox";
import { poll } from "./answer.js";
import { noneMatch, tagged } from "./conditional.js";
import type { Connections } from "./connections.js";
import { JobRequest, wait, waitMs } from "./request.js";
import { documented, failures, jobSnapshot } from "./schemas.js";
import { vary } from "./vary.js";

/** Seconds after which a poller may ask again. */
export const RETRY_AFTER = "2";

const querystring = Type.Object({ wait });
type Route = { Params: { id: string }; Querystring: Static<typeof querystring> };

/** `GET /jobs/:id[?wait=<seconds>]`: the job as it is now, or, with a tag, as soon as it is another. */
export function pollRoute(
  app: FastifyInstance,
  { egress }: WorkflowMonitor,
  path: string,
  { take }: Connections,
): void {
  app.get<Route>(
    `${path}/:id`,
    {
      onRequest: take,
      schema: documented("A job as it is now", {
        querystring,
        response: { 200: jobSnapshot, ...failures },
      }),
    },
    (request, reply) => {
      if (request.query.wait) return waitForNews(request, reply);
      const after = parseCursor(tagged(request.headers["if-none-match"]));
      const body = egress.read(new JobRequest(request, request.params.id, "poll"), after);
      if (!("etag" in body)) return body.then((later) => answer(request, reply, later));
      // In the turn in which it came. Nothing is returned: a reply is thenable, and would be awaited.
      answer(request, reply, body);
    },
  );

  async function waitForNews(
    request: FastifyRequest<Route>,
    reply: FastifyReply,
  ): Promise<FastifyReply> {
    const { id } = request.params;
    const tag = request.headers["if-none-match"];
    let after = parseCursor(tagged(tag));
    if (!after) {
      // Of several tags it is the head's that is waited with.
      const body = await egress.read(new JobRequest(request, id, "poll"));
      if (body.done || !noneMatch(tag, body.etag)) return answer(request, reply, body);
      after = body.cursor;
    }
    const polled = await poll(egress, new JobRequest(request, id, "long-poll"), reply, {
      after,
      waitMs: waitMs(request.query.wait),
      // Its tag may name the head in another version of the host's shape.
      isNews: ({ body }) => !noneMatch(tag, body.etag),
    });
    if (!polled) return reply;
    const { seat, frame } = polled;
    // Any tag fits `*`, also that of news.
    return answer(request, reply, seat.body, frame === undefined && noneMatch(tag, seat.body.etag));
  }

  function answer(
    { headers }: FastifyRequest,
    reply: FastifyReply,
    { etag, bytes, done }: JobBody,
    unchanged = noneMatch(headers["if-none-match"], etag),
  ): FastifyReply {
    reply.header("etag", etag);
    reply.header("cache-control", "private, no-cache");
    vary(reply, "Authorization, Cookie");
    if (!done) reply.header("retry-after", RETRY_AFTER);
    if (egress.stale) reply.header("stale", "true");
    if (unchanged) return reply.code(304).send();
    // Bytes, not an object: encoded once a revision, and the same as in the frames.
    reply.type("application/json; charset=utf-8").send(bytes);
    egress.answering(reply.raw, bytes);
    return reply;
  }
}
