import type { Socket } from "node:net";
import {
  type Beating,
  CloseCode,
  type Cursor,
  type Egress,
  type EndReason,
  encodeError,
  type Mode,
  type Outbox,
  type OutboxOwner,
  refusals,
  type Seat,
  type WatchRequest,
  WorkflowMonitorError,
} from "@org/workflow-monitor";
import { type RawData, WebSocket } from "ws";
import { textMessage } from "./codec.js";
import { MessageRate } from "./message-rate.js";
import { readMessage } from "./messages.js";
import { type Handshake, type Requester, Requests } from "./requests.js";
import { type Carrier, Subscription } from "./subscription.js";

/** A close frame's reason is at most 123 bytes: RFC 6455 §5.5. */
const MAX_REASON_BYTES = 123;
/** With which code `ws` closes, which its error does not say. */
const FAULT_CODES = new Map([
  ["WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", 1009],
  ["WS_ERR_TOO_MANY_BUFFERED_PARTS", 1008],
  ["WS_ERR_INVALID_UTF8", 1007],
]);

function faultOf(error: NodeJS.ErrnoException): EndReason {
  const { code = "", message } = error;
  if (!code.startsWith("WS_ERR_")) return { code: 1006, reason: message }; // the socket broke
  return { code: FAULT_CODES.get(code) ?? 1002, reason: message };
}

/** What fits of a reason. A character that is cut would become another one, which is longer. */
const fitting = (reason: string): string =>
  new TextDecoder().decode(Buffer.from(reason).subarray(0, MAX_REASON_BYTES), { stream: true });

const NO_PONG: EndReason = { code: CloseCode.noPong, reason: "no pong" };
const UNSUBSCRIBED: EndReason = { code: CloseCode.done, reason: "unsubscribed" };
const NOTHING = new Uint8Array();

/** What the connections of one adapter share. */
export interface Hub {
  readonly egress: Egress;
  connections: number;
  /** Called when the last one is gone. */
  onEmpty(): void;
}

/**
 * One viewer's socket, and the jobs that it watches. Frames go to the `net.Socket` as they are, already
 * in WebSocket framing: no copy and no encoding for each viewer. Control frames are left to `ws`, on
 * the same socket. There is one of these for each viewer, so it is kept small: what few connections
 * need is made when they need it.
 */
export class Connection extends WebSocket implements Beating, Carrier, OutboxOwner, Requester {
  #hub!: Hub;
  #socket!: Socket;
  #outbox!: Outbox;
  #slot = 0;
  #closed: EndReason | undefined;
  #handshake = "";
  /** The job that it was opened for, until that is watched or refused. */
  #opening: { jobId: string; joined: Promise<void> } | undefined;
  /** Undefined while it is for the one job that it was opened for. */
  #requests: Requests | undefined;
  /** A ping came before the first frame: its answer comes after it. */
  #owesHeartbeat = false;
  /** Heard from the peer since the last beat. */
  #heard = true;
  #silentBeats = 0;
  /** Made for a viewer that says more than its pongs. */
  #rate: MessageRate | undefined;
  /** Nothing is read until then: it sent too much. */
  #cancelPause: (() => void) | undefined;
  /** Bytes that had been written at the last ping that was answered: it carried their number. */
  #arrived = 0;

  /** After the handshake, before anything is awaited: what comes meanwhile is not lost. */
  begin(hub: Hub, socket: Socket, handshake: Pick<Handshake, "headers" | "query">): void {
    this.#hub = hub;
    this.#socket = socket;
    this.#outbox = hub.egress.outbox(socket, this);
    this.#handshake = compact(handshake);
    this.#slot = hub.egress.heartbeats.add(this);
    hub.connections += 1;
  }

  // ── what its requests see: Requester ───────────────────────────────────────────────────────────

  get egress(): Egress {
    return this.#hub.egress;
  }

  get seats(): readonly Seat[] {
    return this.#outbox.seats;
  }

  isOf(hub: Hub): boolean {
    return this.#hub === hub;
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  get handshake(): Handshake {
    const { headers, query } = JSON.parse(this.#handshake) as Handshake;
    return { headers, query, remoteAddress: this.#socket.remoteAddress };
  }

  /** For many jobs: what the viewer says it wants to watch. */
  get requests(): Requests {
    this.#requests ??= new Requests(this);
    return this.#requests;
  }

  /** Watches the job that it was opened for; closes if it cannot. */
  async open(request: WatchRequest, after: Cursor | null, mode: Mode): Promise<void> {
    const joined = this.#join(request, after, mode);
    this.#opening = { jobId: request.jobId, joined };
    try {
      await joined;
    } catch (thrown) {
      this.refuse(thrown as WorkflowMonitorError);
    }
    this.#opening = undefined;
  }

  async opened(jobId: string): Promise<void> {
    if (this.#opening?.jobId === jobId) await this.#opening.joined.catch(() => {});
  }

  /** Joins the job's room, from `after` on, or says why not. */
  async watch(request: WatchRequest, after: Cursor | null, mode: Mode): Promise<void> {
    try {
      await this.#join(request, after, mode);
    } catch (thrown) {
      this.refuseJob(about(request.jobId, thrown as WorkflowMonitorError));
      this.#requests?.rest();
    }
  }

  unwatch(jobId: string): void {
    const seat = this.#outbox.seats.find((seat) => seat.jobId === jobId);
    if (!seat) return;
    this.#outbox.remove(seat);
    seat.leave(UNSUBSCRIBED);
  }

  refuseJob(error: WorkflowMonitorError): void {
    if (this.requests.mayRefuse(this.writable)) this.deliver([encodeError(textMessage, error)]);
    else this.finish({ code: CloseCode.tooMany, reason: "it does not read its answers" });
  }

  /** An `error` frame, which tells more than a close code, and the close. */
  refuse(error: WorkflowMonitorError): void {
    this.deliver([encodeError(textMessage, error)]);
    this.finish({ code: refusals[error.code].close, reason: error.message });
  }

  /** Closes. Who is done gets his last frame first, however long the line takes for it. */
  finish(reason: EndReason): void {
    if (this.#closed) return;
    this.#leave(reason);
    const { code } = reason;
    // Its answer to the close frame is to be read, unless it sends too much.
    if (this.isPaused && code !== CloseCode.tooMany) this.resume();
    const text = fitting(reason.reason);
    if (code !== CloseCode.done || this.#socket.writableLength === 0) this.close(code, text);
    else this.#socket.write(NOTHING, () => this.close(code, text));
  }

  // ── what its subscriptions see: Carrier ────────────────────────────────────────────────────────

  get writable(): boolean {
    return this.#open && this.#outbox.writable;
  }

  deliver(parts: readonly Uint8Array[]): void {
    if (this.#open) this.#outbox.write(parts);
  }

  ended(subscription: Subscription, reason: EndReason): void {
    const seat = this.#outbox.seats.find(({ member }) => member === subscription);
    if (seat) this.#outbox.remove(seat);
    if (this.#requests) this.#requests.rest(reason);
    else this.finish(reason);
  }

  // ── what the node sees: OutboxOwner, Beating ───────────────────────────────────────────────────

  giveUp(reason: EndReason): void {
    this.#leave(reason);
    this.terminate();
    this.#outbox.close(); // now: whoever needs the memory looks at it next
  }

  beat(late: boolean): void {
    if (this.#closed) return;
    const { bytesWritten } = this.#socket;
    // What it says while it is not read is not heard.
    if (this.#heard || late || this.isPaused) {
      this.#heard = false;
      this.#silentBeats = 0;
    } else this.#silentBeats += 1;
    // A pong cannot come before what was sent has arrived, however long the line takes for it.
    const { heartbeats } = this.#hub.egress;
    const underWay = heartbeats.beatsFor(bytesWritten - this.#arrived);
    if (this.#silentBeats >= 2 + Math.floor(underWay)) return this.giveUp(NO_PONG);
    this.#sendHeartbeat();
    if (this.writable) this.ping(String(bytesWritten));
  }

  goAway(error: WorkflowMonitorError): void {
    if (!this.#closed) this.refuse(error);
    else if (this.readyState === WebSocket.OPEN) this.close(CloseCode.restarting); // it waits for its last frame
  }

  // ── its own ────────────────────────────────────────────────────────────────────────────────────

  /** After a close frame nothing may follow. */
  get #open(): boolean {
    return this.#closed === undefined && this.readyState === WebSocket.OPEN;
  }

  async #join(request: WatchRequest, after: Cursor | null, mode: Mode): Promise<void> {
    const seat = await this.#hub.egress.join(request, new Subscription(this, mode), after);
    if (seat.left) return;
    if (this.#closed) return seat.leave(this.#closed);
    this.#outbox.add(seat);
    if (this.#owesHeartbeat) this.#sendHeartbeat();
  }

  /** What `ws` tells is heard here: listeners would be a table of their own for each viewer. */
  override emit(name: string | symbol, ...args: unknown[]): boolean {
    if (name === "message") {
      if (this.#mayGoOn()) this.#receive(String(args[0] as RawData), args[1] as boolean);
    } else if (name === "pong") {
      if (this.#mayGoOn()) this.#ponged(Number(args[0] as Buffer));
    } else if (name === "ping") this.#mayGoOn();
    // `ws` closes by itself, but does not tell `close` with which code.
    else if (name === "error") this.#leave(faultOf(args[0] as Error));
    else if (name === "close") this.#gone(args[0] as number, args[1] as Buffer);
    return true;
  }

  /** Counts a message, a ping or a pong. Over its rate the connection is read more slowly, and ended if it goes on. SPEC D16. */
  #mayGoOn(): boolean {
    if (this.#closed) return false;
    if (!this.#heard) {
      this.#heard = true; // the answer to our ping is free
      return true;
    }
    const { clock, limits } = this.#hub.egress;
    this.#rate ??= new MessageRate(clock, limits.messagesPerSecond);
    const pauseMs = this.#rate.count();
    if (pauseMs === 0) return true;
    this.pause();
    if (pauseMs === Number.POSITIVE_INFINITY) {
      const message = `A connection may send ${limits.messagesPerSecond} messages a second: slow down.`;
      this.refuse(new WorkflowMonitorError("too_many_requests", message));
      return false; // it stays paused: `ws` ends it, since nobody reads the answer to the close frame
    }
    this.#cancelPause?.();
    this.#cancelPause = clock.setTimeout(() => this.resume(), pauseMs);
    return true;
  }

  /** @param bytes what its ping carried; NaN or 0 of one that nobody asked for */
  #ponged(bytes: number): void {
    this.#heard = true;
    if (bytes > this.#arrived && bytes <= this.#socket.bytesWritten) this.#arrived = bytes;
  }

  #gone(code: number, reason: Buffer): void {
    const hub = this.#hub;
    this.#leave({ code, reason: reason.toString() });
    this.#outbox.close();
    hub.egress.heartbeats.remove(this, this.#slot);
    hub.connections -= 1;
    if (hub.connections === 0) hub.onEmpty();
  }

  #receive(text: string, isBinary: boolean): void {
    this.#heard = true;
    if (this.#closed) return;
    try {
      if (isBinary) {
        throw new WorkflowMonitorError("bad_request", "Messages are JSON texts, not binary.");
      }
      const wish = readMessage(text);
      if (wish.type === "ping") this.#sendHeartbeat();
      else if (wish.type) this.requests.take(wish);
    } catch (thrown) {
      const error = thrown as WorkflowMonitorError;
      if (error.jobId === undefined) this.refuse(error);
      else this.refuseJob(error);
    }
  }

  /** A snapshot always comes first. */
  #sendHeartbeat(): void {
    const before = !this.#requests && this.#outbox.seats.length === 0;
    this.#owesHeartbeat = before;
    if (!before && this.writable) this.deliver([this.#hub.egress.heartbeat(textMessage)]);
  }

  #leave(reason: EndReason): void {
    this.#closed ??= reason;
    this.#cancelPause?.();
    this.#requests?.close();
    for (const seat of this.#outbox.seats) seat.leave(reason);
  }
}

/** An error that ends one subscription says which. */
function about(jobId: string | null, error: WorkflowMonitorError): WorkflowMonitorError {
  if (jobId === null || error.jobId !== undefined) return error;
  const { code, message, retryAfterMs } = error;
  return new WorkflowMonitorError(code, message, {
    jobId,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
}

/**
 * The handshake as one flat text: kept for a subscription that may come, an eighth of what its object
 * holds. What only makes it a handshake is left out.
 */
function compact({ headers, query }: Pick<Handshake, "headers" | "query">): string {
  const {
    upgrade,
    connection,
    "sec-websocket-key": _,
    "sec-websocket-version": __,
    ...kept
  } = headers;
  return Buffer.from(JSON.stringify({ headers: kept, query })).toString();
}
