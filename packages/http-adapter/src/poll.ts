import { type JobBody, parseCursor, type WorkflowMonitor } from "@org/workflow-monitor";
import type { FastifyInstance, FastifyReply } from "fastify";
import { type Static, Type } from "typebox";
import { poll } from "./answer.js";
import { noneMatch, tagged } from "./conditional.js";
import { JobRequest, wait, waitMs } from "./request.js";
import { documented, failures, jobParams, jobSnapshot } from "./schemas.js";
import { vary } from "./vary.js";

/** Seconds after which a poller may ask again. */
export const RETRY_AFTER = "2";

const querystring = Type.Object({ wait });

/** `GET /jobs/:id[?wait=<seconds>]`: the job as it is now, or, with a tag, as soon as it is another. */
export function pollRoute(app: FastifyInstance, { egress }: WorkflowMonitor, path: string): void {
  app.get<{ Params: Static<typeof jobParams>; Querystring: Static<typeof querystring> }>(
    `${path}/:id`,
    {
      schema: documented("A job as it is now", {
        params: jobParams,
        querystring,
        response: { 200: jobSnapshot, ...failures },
      }),
    },
    async (request, reply) => {
      const { id } = request.params;
      const tag = request.headers["if-none-match"];
      const time = waitMs(request.query.wait);
      let after = time > 0 ? parseCursor(tagged(tag)) : undefined;
      if (!after) {
        const body = await egress.read(new JobRequest(request, id, "poll"));
        const unchanged = noneMatch(tag, body.etag);
        if (!unchanged || body.done || time === 0) return answer(reply, body, unchanged);
        after = body.cursor;
      }
      const watch = new JobRequest(request, id, "long-poll");
      // Its tag may name the head in another version of the host's shape.
      const isNews = ({ body }: { body: JobBody }) => !noneMatch(tag, body.etag);
      const polled = await poll(egress, watch, reply, { after, waitMs: time, isNews });
      if (!polled) return reply;
      const { seat, frame } = polled;
      return answer(reply, seat.body, !frame && noneMatch(tag, seat.body.etag));

      function answer(reply: FastifyReply, { etag, bytes, done }: JobBody, unchanged: boolean) {
        reply.header("etag", etag);
        reply.header("cache-control", "private, no-cache");
        vary(reply, "Authorization, Cookie");
        if (!done) reply.header("retry-after", RETRY_AFTER);
        if (unchanged) return reply.code(304).send();
        // Bytes, not an object: encoded once a revision, and the same as in the frames.
        reply.header("content-type", "application/json; charset=utf-8").send(bytes);
        egress.answering(reply.raw, bytes);
        return reply;
      }
    },
  );
}
