import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import {
  type Beating,
  CloseCode,
  type Codec,
  type Cursor,
  type Egress,
  type EndReason,
  type Member,
  type Mode,
  type Outbox,
  type OutboxOwner,
  type Seat,
  type WatchRequest,
  type WorkflowMonitorError,
} from "@org/workflow-monitor";
import type { FastifyReply, FastifyRequest } from "fastify";
import { onceClosed } from "./closed.js";
import { asChunk, chunkedEvent, serverSentEvent } from "./codec.js";

const GONE: EndReason = { code: CloseCode.goingAway, reason: "the client went away" };
const ROTATED: EndReason = { code: CloseCode.goingAway, reason: "rotated" };
/** Long connections move to other nodes some time: after 5 to 10 minutes. */
const ROTATE_MS = { least: 300_000, spread: 300_000 };
/** When an EventSource comes back; later to a node that goes, whose 503 it would take for final. */
const RETRY_MS = { least: 1_000, spread: 2_000 };
const RETRY_GONE_MS = { least: 4_000, spread: 4_000 };
/** How long a node that goes waits for a last frame to leave. */
const CLOSE_TIMEOUT_MS = 2_000;

/**
 * One viewer's event stream: a member of its job's room. Over HTTP/1.1 events go to the `net.Socket` as
 * chunks, made once for all viewers; elsewhere (HTTP/1.0, HTTP/2, a request pipelined behind one of the host's) through the
 * response.
 */
export class EventStream implements Member, Beating, OutboxOwner {
  readonly codec: Codec;
  readonly mode: Mode;
  readonly #egress: Egress;
  readonly #reply: FastifyReply;
  readonly #response: ServerResponse;
  readonly #rotateAt: number;
  #outbox: Outbox | undefined;
  /** What comes before the head of the response is decided. */
  #held: (readonly Uint8Array[])[] = [];
  #seat: Seat | undefined;
  #slot = 0;
  #closed: EndReason | undefined;
  #cancelTimeout: (() => void) | undefined;

  constructor(egress: Egress, request: FastifyRequest, reply: FastifyReply, mode: Mode) {
    this.#egress = egress;
    this.#reply = reply;
    this.#response = reply.raw;
    this.mode = mode;
    const chunked = request.raw.httpVersion === "1.1" && reply.raw.socket;
    this.codec = chunked ? chunkedEvent : serverSentEvent;
    this.#rotateAt = egress.clock.monotonic() + ROTATE_MS.least + Math.random() * ROTATE_MS.spread;
  }

  /** Joins the job's room. Rejects with a WorkflowMonitorError: then nothing was written. */
  async open(request: WatchRequest, after: Cursor | null): Promise<Seat> {
    onceClosed(this.#response, () => this.#onClose());
    const seat = await this.#egress.join(request, this, after);
    this.#seat = seat;
    if (this.#closed?.error) throw this.#closed.error;
    if (this.#closed) seat.leave(this.#closed);
    return seat;
  }

  /** It has had everything of a job that is over. */
  get done(): boolean {
    return this.#closed?.code === CloseCode.done;
  }

  /** Its client went away. */
  get gone(): boolean {
    return this.#closed === GONE;
  }

  /** Sends the head, and what has come so far. */
  begin(): void {
    const response = this.#response;
    response.writeHead(200, {
      ...(this.#reply.getHeaders() as OutgoingHttpHeaders),
      "content-type": "text/event-stream",
      "x-accel-buffering": "no",
    });
    response.flushHeaders();
    const socket = this.codec === chunkedEvent ? response.socket : null;
    this.#outbox = this.#egress.outbox(socket ?? response, this);
    this.#outbox.write([this.#retry(RETRY_MS), ...this.#held.flat()]);
    this.#held = [];
    // Also one that is done: its last frames may take long to leave, and a node that goes looks here.
    this.#slot = this.#egress.heartbeats.add(this);
    if (this.#closed) return this.#end();
    if (this.#seat) this.#outbox.add(this.#seat);
  }

  // ── what its room sees ─────────────────────────────────────────────────────────────────────────

  get writable(): boolean {
    return this.#closed === undefined && (this.#outbox?.writable ?? true);
  }

  write(parts: readonly Uint8Array[]): void {
    if (this.#closed) return;
    if (this.#outbox) this.#outbox.write(parts);
    else this.#held.push(parts);
  }

  end(reason: EndReason): void {
    if (this.#closed) return;
    this.#closed = reason;
    if (!this.#outbox) return;
    if (reason.error?.code === "draining") this.#outbox.write([this.#retry(RETRY_GONE_MS)]);
    this.#end();
  }

  // ── what the node sees ─────────────────────────────────────────────────────────────────────────

  beat(): void {
    if (this.#closed) return;
    if (this.#egress.clock.monotonic() >= this.#rotateAt) {
      this.#seat?.leave(ROTATED);
      this.end(ROTATED);
    } else if (this.writable) this.#outbox?.write([this.#egress.heartbeat(this.codec)]);
  }

  goAway(error: WorkflowMonitorError): void {
    this.end({ code: CloseCode.restarting, reason: error.message, error });
    // A last frame may leave, but not for ever.
    this.#cancelTimeout ??= this.#egress.clock.setTimeout(
      () => this.#response.destroy(),
      CLOSE_TIMEOUT_MS,
    );
  }

  giveUp(reason: EndReason): void {
    this.#closed ??= reason;
    this.#seat?.leave(this.#closed);
    this.#response.destroy();
    this.#onClose();
  }

  #retry({ least, spread }: typeof RETRY_MS): Buffer {
    return asChunk(`retry: ${Math.round(least + Math.random() * spread)}\n\n`, this.codec);
  }

  #end(): void {
    if (!this.#response.writableEnded) this.#response.end();
  }

  #onClose(): void {
    this.#closed ??= GONE;
    this.#seat?.leave(this.#closed);
    this.#cancelTimeout?.();
    this.#egress.heartbeats.remove(this, this.#slot);
    this.#outbox?.close();
  }
}
