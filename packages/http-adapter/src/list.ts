import { type JobQuery, type WorkflowMonitor, WorkflowMonitorError } from "@org/workflow-monitor";
import type { FastifyInstance } from "fastify";
import type { Static } from "typebox";
import { isClosed } from "./closed.js";
import type { Connections } from "./connections.js";
import { documented, failures, jobPage, listQuery } from "./schemas.js";
import { vary } from "./vary.js";

/** `GET /jobs`: summaries of the jobs that the viewer may watch, newest first. */
export function listRoute(
  app: FastifyInstance,
  { egress }: WorkflowMonitor,
  path: string,
  { takeList }: Connections,
): void {
  app.get<{ Querystring: Static<typeof listQuery> }>(
    path,
    {
      onRequest: takeList,
      schema: documented("Jobs, newest first", {
        querystring: listQuery,
        response: { 200: jobPage, ...failures },
      }),
    },
    async (request, reply) => {
      const { headers, query, ip: remoteAddress } = request;
      const asked = { headers, query, remoteAddress } as const;
      const isGone = () => isClosed(reply.raw);
      const bytes = await egress.list(
        { ...asked, jobId: null, action: "list", transport: "poll" },
        toQuery(query),
        isGone,
      );
      if (isGone()) return reply;
      vary(reply, "Authorization, Cookie").header("cache-control", "private, no-cache");
      reply.type("application/json; charset=utf-8").send(bytes);
      egress.answering(reply.raw, bytes);
      return reply;
    },
  );
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
