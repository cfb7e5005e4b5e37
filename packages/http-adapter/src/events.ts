import {
  parseCursor,
  parseMode,
  printCursor,
  type WorkflowMonitor,
  WorkflowMonitorError,
} from "@org/workflow-monitor";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type Static, Type } from "typebox";
import { poll } from "./answer.js";
import { noneMatch, tagged } from "./conditional.js";
import type { Connections } from "./connections.js";
import { RETRY_AFTER } from "./poll.js";
import { JobRequest, wait, waitMs } from "./request.js";
import { documented, failures, snapshotFrame } from "./schemas.js";
import { EventStream } from "./stream.js";
import { vary } from "./vary.js";

const querystring = Type.Object({
  after: Type.Optional(Type.String({ description: "the cursor of the last frame seen" })),
  mode: Type.Optional(Type.String({ description: "of an event stream: full (default) or delta" })),
  wait,
});
type Route = { Params: { id: string }; Querystring: Static<typeof querystring> };
type EventsRequest = FastifyRequest<Route>;

const VARY = "Authorization, Cookie, Accept";
const EVENT_STREAM = /\btext\/event-stream\b/i;

/**
 * `GET /jobs/:id/events`: what happened since a cursor. As JSON one snapshot frame, at once or, with
 * `?wait=<seconds>`, as soon as there is something; as `text/event-stream` every frame as it comes.
 */
export function eventsRoute(
  app: FastifyInstance,
  { egress }: WorkflowMonitor,
  path: string,
  { take }: Connections,
): void {
  app.get<Route>(
    `${path}/:id/events`,
    {
      onRequest: take,
      exposeHeadRoute: false, // a stream has no length to tell
      schema: documented("What happened to a job since a cursor", {
        querystring,
        response: { 200: snapshotFrame, ...failures },
      }),
    },
    async (request, reply) =>
      EVENT_STREAM.test(request.headers.accept ?? "")
        ? stream(request, reply)
        : json(request, reply),
  );

  async function json(request: EventsRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { params, query, headers } = request;
    const tag = headers["if-none-match"];
    const time = waitMs(query.wait);
    let after = parseCursor(query.after) ?? parseCursor(tagged(tag)) ?? null;
    if (!after && tag !== undefined && time > 0) {
      // Of several tags it is the head's that is waited with.
      const head = await egress.read(new JobRequest(request, params.id, "poll"));
      if (noneMatch(tag, head.etag)) after = head.cursor;
    }
    const watch = new JobRequest(request, params.id, time > 0 ? "long-poll" : "poll");
    const polled = await poll(egress, watch, reply, { after, waitMs: time });
    if (!polled) return reply;
    const { seat, frame } = polled;
    const cursor = seat.cursor ?? seat.body.cursor;
    const etag = egress.etag(cursor);
    vary(reply, VARY).headers({ etag, "cache-control": "private, no-cache" });
    if (!seat.body.done) reply.header("retry-after", RETRY_AFTER);
    if (egress.stale) reply.header("stale", "true");
    if (noneMatch(tag, etag)) return reply.code(304).send();
    if (!frame) return reply.code(tag === undefined ? 204 : 304).send();
    const bytes = joined(frame);
    reply.header("content-type", "application/json; charset=utf-8").send(bytes);
    egress.answering(reply.raw, bytes);
    return reply;
  }

  async function stream(request: EventsRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { params, query, headers } = request;
    const mode = parseMode(query.mode);
    if (!mode) throw new WorkflowMonitorError("bad_request", "mode must be full or delta.");
    const last = headers["last-event-id"] ?? query.after;
    const after = parseCursor(last) ?? null;
    const watch = new JobRequest(request, params.id, "sse");
    const events = new EventStream(egress, request, reply, mode);
    const seat = await events.open(watch, after);
    // Who has everything of a job that is over is told to stay away: an EventSource stops on 204.
    const all = after && seat.cursor && printCursor(after) === printCursor(seat.cursor);
    if (events.done && all) {
      return vary(reply, VARY).code(204).header("cache-control", "private, no-cache").send();
    }
    if (!events.gone) {
      vary(reply, VARY).header("cache-control", "private, no-cache, no-transform");
      reply.hijack();
      events.begin();
    }
    return reply;
  }
}

/** Pollers with the same cursor share their frame, and its bytes in one piece. */
const pieces = new WeakMap<readonly Uint8Array[], Uint8Array>();

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0] as Uint8Array;
  const known = pieces.get(parts) ?? Buffer.concat(parts);
  pieces.set(parts, known);
  return known;
}
