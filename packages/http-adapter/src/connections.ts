import type { IncomingMessage, ServerResponse } from "node:http";
import { constants as http2, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { type Egress, WorkflowMonitorError } from "@org/workflow-monitor";
import type { FastifyReply, FastifyRequest } from "fastify";
import { sendProblem } from "./problem.js";

/** Requests of one connection that begin in one turn of the event loop. */
const PER_TURN = 4;
/** Requests that had to wait for their turn, of all connections: so many begin in one turn. */
const RESUMED_PER_TURN = 16;
/** An HTTP/2 session may carry the viewers of a whole proxy. */
const SESSION_FACTOR = 32;
/** Lists of one HTTP/2 session that are in progress at the same time. */
const LISTS_AT_ONCE = 4;
const REFUSALS_MS = 1_000;
/** What Node's parser is told of a request that is an upgrade. */
const UPGRADE = 2;
const WARN_MS = 60_000;

type Begin = () => void;

/** A request that waits for its turn. */
interface Waiting {
  response: ServerResponse;
  begin: Begin;
}

/** What one connection has asked of these routes. There is one for each connection, so it is kept small. */
class Line {
  readonly atOnce: number;
  /** Requests that have begun and whose answer has not left. */
  pending = 0;
  /** Requests that have begun in `turn`. */
  begun = 0;
  turn = 0;
  waiting: Waiting[] | undefined;
  /** It asked for too much, and is being closed. */
  ended = false;
  /** Requests that were refused since `refusedAt`. */
  refused = 0;
  refusedAt = 0;

  constructor(atOnce: number) {
    this.atOnce = atOnce;
  }
}

/**
 * Bounds what one connection may ask of these routes, in number and in each turn of the event loop.
 * SPEC D15. Requests that an HTTP/1.1 connection pipelines begin one after another, since their answers
 * leave one after another; the streams of an HTTP/2 session are independent. A request that is alone on
 * its connection and is answered at once costs a look at its connection and nothing else.
 */
export class Connections {
  readonly #egress: Egress;
  readonly #lines = new WeakMap<object, Line>();
  /** Lists of HTTP/2 sessions have a line of their own: a slow list holds up no other stream. */
  readonly #lists = new WeakMap<object, Line>();
  readonly #pending = new Set<ServerResponse>();
  readonly #busy = new Set<Line>();
  #closing = false;
  #turn = 1;
  #ticking = false;
  #ended = 0;
  #warnedAt = Number.NEGATIVE_INFINITY;

  constructor(egress: Egress) {
    this.#egress = egress;
  }

  /** The `onRequest` hook of a route about one job. */
  readonly take = (request: FastifyRequest, reply: FastifyReply, begin: Begin): void =>
    this.#take(this.#lines, Number.POSITIVE_INFINITY, request, reply, begin);

  /** The `onRequest` hook of a list. */
  readonly takeList = (request: FastifyRequest, reply: FastifyReply, begin: Begin): void =>
    isSession(request.raw)
      ? this.#take(this.#lists, LISTS_AT_ONCE, request, reply, begin)
      : this.take(request, reply, begin);

  /** The answer is of one of these routes, and has not left. */
  isPending(response: ServerResponse): boolean {
    return this.#pending.has(response);
  }

  /** The server goes: a connection whose requests wait here is closed after its next answer. */
  close(): void {
    this.#closing = true;
  }

  /** Ends everything that has not left. */
  cut(): void {
    for (const response of this.#pending) {
      const { stream, req } = response as AnyResponse;
      if (stream) stream.close(http2.NGHTTP2_CANCEL);
      else req.socket.destroy();
    }
  }

  #take(
    lines: WeakMap<object, Line>,
    atOnce: number,
    { raw }: FastifyRequest,
    reply: FastifyReply,
    begin: Begin,
  ): void {
    const connection = connectionOf(raw);
    let line = lines.get(connection);
    if (!line) {
      line = new Line(isSession(raw) ? atOnce : 1);
      lines.set(connection, line);
    }
    if (line.ended) return;
    const response = reply.raw;
    const most = this.#egress.limits.requestsPerConnection * (isSession(raw) ? SESSION_FACTOR : 1);
    if (line.pending + (line.waiting?.length ?? 0) >= most) {
      return isSession(raw) ? this.#refuse(line, raw, reply, most) : this.#end(line, raw, most);
    }
    if (!line.waiting && this.#mayBegin(line)) return this.#begin(line, response, begin);
    line.waiting ??= [];
    line.waiting.push({ response, begin });
    if (line.pending < line.atOnce) this.#inNextTurn(line);
  }

  #mayBegin(line: Line): boolean {
    this.#tick();
    if (line.turn !== this.#turn) {
      line.turn = this.#turn;
      line.begun = 0;
    }
    return line.pending < line.atOnce && line.begun < PER_TURN;
  }

  #begin(line: Line, response: ServerResponse, begin: Begin): void {
    line.begun += 1;
    begin();
    if (!response.writableFinished && !response.destroyed) this.#hold(line, response);
  }

  /** Its answer has not left. */
  #hold(line: Line, response: ServerResponse): void {
    line.pending += 1;
    this.#pending.add(response);
    const { socket } = response.req;
    const isBehind = response.socket === null;
    // Node emits `close` of a response when its socket closes, but not of one that waits for the socket.
    const onSocketClose = () => {
      if (response.socket) return;
      response.destroy();
      response.emit("close");
    };
    if (isBehind && socket.destroyed) queueMicrotask(onSocketClose);
    else if (isBehind) socket.once("close", onSocketClose);
    response.once("close", () => {
      if (isBehind) socket.off("close", onSocketClose);
      this.#pending.delete(response);
      line.pending -= 1;
      if (line.waiting) this.#inNextTurn(line);
    });
  }

  #inNextTurn(line: Line): void {
    this.#busy.add(line);
    this.#tick();
  }

  /** One callback for all connections, in each turn in which there was a request. */
  #tick(): void {
    if (this.#ticking) return;
    this.#ticking = true;
    setImmediate(this.#onTurn);
  }

  readonly #onTurn = (): void => {
    this.#ticking = false;
    this.#turn += 1;
    let lines = this.#busy.size; // those that are added meanwhile have the next turn
    let left = RESUMED_PER_TURN;
    for (const line of this.#busy) {
      if (lines === 0 || left <= 0) break;
      lines -= 1;
      this.#busy.delete(line);
      left -= this.#goOn(line);
    }
    if (this.#busy.size > 0) this.#tick();
  };

  /** Returns how many requests have begun. */
  #goOn(line: Line): number {
    let begun = 0;
    while (line.waiting && this.#mayBegin(line)) {
      const next = line.waiting.shift();
      if (next && !isGone(next.response)) {
        this.#resume(line, next);
        begun += 1;
      }
      if (line.waiting?.length === 0) line.waiting = undefined;
    }
    if (line.waiting && line.pending < line.atOnce) this.#inNextTurn(line);
    return begun;
  }

  #resume(line: Line, { response, begin }: Waiting): void {
    const { req } = response;
    if (this.#closing && !isSession(req)) response.setHeader("connection", "close");
    this.#begin(line, response, begin);
  }

  /** HTTP/1.1 has no way to refuse a request that waits behind others. */
  #end(line: Line, { socket }: IncomingMessage, most: number): void {
    this.#close(line, socket.remoteAddress, most);
    // The chunk that is being parsed may have a thousand more. After an upgrade a parser stops.
    const { parser } = socket as Socket & { parser?: { onIncoming?(): number } | null };
    if (parser) parser.onIncoming = () => UPGRADE;
    socket.destroy();
  }

  #refuse(line: Line, raw: SessionRequest, reply: FastifyReply, most: number): void {
    const now = this.#egress.clock.monotonic();
    if (now - line.refusedAt >= REFUSALS_MS) {
      line.refusedAt = now;
      line.refused = 0;
    }
    line.refused += 1;
    if (line.refused > most) {
      this.#close(line, raw.socket.remoteAddress, most);
      raw.stream.session?.destroy(undefined, http2.NGHTTP2_ENHANCE_YOUR_CALM);
      return;
    }
    const message = `A connection may have ${most} requests pending: wait for an answer, or open another one.`;
    sendProblem(reply, new WorkflowMonitorError("too_many_requests", message));
  }

  #close(line: Line, remoteAddress: string | undefined, most: number): void {
    line.ended = true;
    line.waiting = undefined;
    this.#ended += 1;
    const { clock, logger } = this.#egress;
    const now = clock.monotonic();
    if (now - this.#warnedAt < WARN_MS) return;
    logger.warn(
      { remoteAddress, most, connections: this.#ended },
      "connections were closed that had too many requests pending: limits.requestsPerConnection",
    );
    this.#warnedAt = now;
    this.#ended = 0;
  }
}

type SessionRequest = IncomingMessage & { stream: ServerHttp2Stream };
type AnyResponse = ServerResponse & { stream?: ServerHttp2Stream };

const isSession = (raw: IncomingMessage): raw is SessionRequest => raw.httpVersionMajor === 2;

/** Two requests with the same one share a connection. */
const connectionOf = (raw: IncomingMessage): object =>
  isSession(raw) ? (raw.stream.session ?? raw.stream) : raw.socket;

const isGone = ({ stream, req }: AnyResponse): boolean =>
  stream ? stream.destroyed : req.socket.destroyed;
