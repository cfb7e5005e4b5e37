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
  type WatchRequest,
  WorkflowMonitorError,
} from "@org/workflow-monitor";
import { type RawData, WebSocket } from "ws";
import { textMessage } from "./codec.js";
import { Allowance, readMessage, type Wish } from "./messages.js";
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

const NO_PONG: EndReason = { code: CloseCode.noPong, reason: "no pong" };
const UNSUBSCRIBED: EndReason = { code: CloseCode.done, reason: "unsubscribed" };
const SUBSCRIBE_MS = 10_000;
/** Messages that wait for the one before them. */
const MAX_WAITING = 256;
const NOTHING = new Uint8Array();

/** What the connections of one adapter share. */
export interface Hub {
  readonly egress: Egress;
  readonly connections: Set<Connection>;
  /** Called when the last one is gone. */
  onEmpty(): void;
}

/** What `authorize` may look at: of the request that opened the connection. */
export type Handshake = Pick<WatchRequest, "headers" | "query">;

/**
 * One viewer's socket, and the jobs that it watches. Frames go to the `net.Socket` as they are, already
 * in WebSocket framing: no copy and no encoding for each viewer. Control frames are left to `ws`, on
 * the same socket. There is one of these for each viewer, so it is kept small: listeners are shared
 * functions, and what few connections need is made when they need it.
 */
export class Connection extends WebSocket implements Beating, Carrier, OutboxOwner {
  #hub!: Hub;
  #socket!: Socket;
  #outbox!: Outbox;
  #slot = 0;
  #closed: EndReason | undefined;
  /** The handshake as JSON: an eighth of what its object holds. */
  #handshake = "";
  /** It was opened for one job: when that cannot be watched, the connection is over. */
  #forOne = false;
  /** Messages are handled one after another: the last of them, and how many there are. */
  #turn: Promise<void> | undefined;
  #waiting = 0;
  #allowance: Allowance | undefined;
  /** How the last subscription ended. */
  #outcome: EndReason | undefined;
  #cancelIdle: (() => void) | undefined;
  /** A ping came before the first frame: its answer comes after it. */
  #owesHeartbeat = false;
  /** Heard from the peer since the last beat. */
  #heard = true;
  #silentBeats = 0;

  /** After the handshake, before anything is awaited: what comes meanwhile is not lost. */
  begin(hub: Hub, socket: Socket, handshake: Handshake): void {
    this.#hub = hub;
    this.#socket = socket;
    this.#outbox = hub.egress.outbox(socket, this);
    this.#handshake = JSON.stringify(handshake);
    this.#slot = hub.egress.heartbeats.add(this);
    hub.connections.add(this);
    this.on("message", Connection.#onMessage);
    this.on("pong", Connection.#onPong);
    this.on("error", Connection.#onError);
    this.on("close", Connection.#onClose);
  }

  /** Watches the one job that it was opened for. */
  watchOne(request: WatchRequest, after: Cursor | null, mode: Mode): void {
    this.#forOne = true;
    void this.#inTurn(() => this.#watch(request, after, mode));
  }

  /** Watches what it is told to, soon. */
  watchMany(): void {
    const message = `Subscribe within ${SUBSCRIBE_MS / 1_000} s.`;
    this.#cancelIdle ??= this.#hub.egress.clock.setTimeout(
      () => this.refuse(new WorkflowMonitorError("subscribe_timeout", message)),
      SUBSCRIBE_MS,
    );
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
    this.#outcome = reason;
    this.#settle();
  }

  // ── what the node sees: OutboxOwner, Beating ───────────────────────────────────────────────────

  giveUp(reason: EndReason): void {
    this.#leave(reason);
    this.terminate();
  }

  beat(late: boolean): void {
    if (this.#closed) return;
    this.#silentBeats = this.#heard || late ? 0 : this.#silentBeats + 1;
    this.#heard = false;
    if (this.#silentBeats >= 2) return this.giveUp(NO_PONG);
    this.#sendHeartbeat();
    if (this.writable) this.ping();
  }

  goAway(error: WorkflowMonitorError): void {
    if (!this.#closed) this.refuse(error);
    else if (this.readyState === WebSocket.OPEN) this.close(CloseCode.restarting); // it waits for its last frame
  }

  /** An `error` frame, which tells more than a close code, and the close. */
  refuse(error: WorkflowMonitorError): void {
    this.deliver([encodeError(textMessage, error)]);
    this.#finish({ code: refusals[error.code].close, reason: error.message });
  }

  // ── its own ────────────────────────────────────────────────────────────────────────────────────

  /** After a close frame nothing may follow. */
  get #open(): boolean {
    return this.#closed === undefined && this.readyState === WebSocket.OPEN;
  }

  /** Joins the job's room, from `after` on, or says why not. */
  async #watch(request: WatchRequest, after: Cursor | null, mode: Mode): Promise<void> {
    try {
      const seat = await this.#hub.egress.join(request, new Subscription(this, mode), after);
      if (seat.left) return;
      if (this.#closed) return seat.leave(this.#closed);
      this.#outbox.add(seat);
      if (this.#owesHeartbeat) this.#sendHeartbeat();
    } catch (thrown) {
      this.#refuseJob(thrown as WorkflowMonitorError);
    }
  }

  async #subscribe({ jobId, after, mode }: Wish & { type: "subscribe" }): Promise<void> {
    if (this.#closed) return;
    this.#unsubscribe(jobId); // what is said later holds
    const { limits } = this.#hub.egress;
    if (this.#outbox.seats.length >= limits.jobsPerConnection) {
      const message = `A connection may watch ${limits.jobsPerConnection} jobs: unsubscribe from one.`;
      return this.#refuseJob(
        new WorkflowMonitorError("too_many_subscriptions", message, { jobId }),
      );
    }
    const socket = this.#socket;
    const request: WatchRequest = {
      jobId,
      action: "watch",
      transport: "ws",
      ...(JSON.parse(this.#handshake) as Handshake),
      get remoteAddress() {
        return socket.remoteAddress;
      },
    };
    this.#cancelIdle?.();
    this.#cancelIdle = undefined;
    await this.#watch(request, after, mode);
  }

  #unsubscribe(jobId: string): void {
    const seat = this.#outbox.seats.find((seat) => seat.jobId === jobId);
    if (!seat) return;
    this.#outbox.remove(seat);
    seat.leave(UNSUBSCRIBED);
  }

  /** A job that cannot be watched is over; with it the connection that was opened for it. */
  #refuseJob(error: WorkflowMonitorError): void {
    const watching = this.#outbox.seats.length > 0;
    if (this.#forOne && !watching) return this.refuse(error);
    if (this.writable) this.deliver([encodeError(textMessage, error)]);
    else this.#finish({ code: CloseCode.tooMany, reason: "it does not read its answers" });
    this.#settle();
  }

  /** Nothing is watched any more: it had what it came for, or has a while to say what else. */
  #settle(): void {
    if (this.#closed || this.#waiting > 0 || this.#outbox.seats.length > 0) return;
    const outcome = this.#outcome;
    if (outcome && (this.#forOne || outcome.code !== CloseCode.unknownJob)) this.#finish(outcome);
    else this.watchMany();
  }

  static #onMessage(this: WebSocket, data: RawData, isBinary: boolean): void {
    (this as Connection).#receive(String(data), isBinary);
  }

  static #onPong(this: WebSocket): void {
    (this as Connection).#heard = true;
  }

  /** `ws` closes by itself, but does not tell `close` with which code. */
  static #onError(this: WebSocket, error: Error): void {
    (this as Connection).#leave(faultOf(error));
  }

  static #onClose(this: WebSocket, code: number, reason: Buffer): void {
    const connection = this as Connection;
    const { connections, egress } = connection.#hub;
    connection.#leave({ code, reason: reason.toString() });
    connection.#outbox.close();
    egress.heartbeats.remove(connection, connection.#slot);
    connections.delete(connection);
    if (connections.size === 0) connection.#hub.onEmpty();
  }

  #receive(text: string, isBinary: boolean): void {
    this.#heard = true;
    if (this.#closed) return;
    try {
      if (isBinary) {
        throw new WorkflowMonitorError("bad_request", "Messages are JSON texts, not binary.");
      }
      this.#obey(readMessage(text));
    } catch (thrown) {
      const error = thrown as WorkflowMonitorError;
      if (error.jobId === undefined) this.refuse(error);
      else this.#refuseJob(error);
    }
  }

  #obey(wish: Wish): void {
    if (wish.type === "ping") this.#sendHeartbeat();
    else if (wish.type === "unsubscribe") {
      void this.#inTurn(async () => {
        this.#unsubscribe(wish.jobId);
        this.#outcome = undefined;
      });
    } else if (wish.type === "subscribe") {
      const { clock, limits } = this.#hub.egress;
      const { jobsPerConnection, subscribesPerSecond } = limits;
      this.#allowance ??= new Allowance(clock, jobsPerConnection, subscribesPerSecond);
      if (this.#allowance.take()) return void this.#inTurn(() => this.#subscribe(wish));
      throw new WorkflowMonitorError(
        "too_many_subscriptions",
        `A connection may subscribe ${subscribesPerSecond} times a second: slow down.`,
        { jobId: wish.jobId, retryAfterMs: Math.ceil(1_000 / subscribesPerSecond) },
      );
    }
  }

  /** `work` does not reject. */
  async #inTurn(work: () => Promise<void>): Promise<void> {
    if (this.#waiting >= MAX_WAITING) {
      const message = "Too many messages wait for an answer: come back later.";
      return this.refuse(new WorkflowMonitorError("too_many_subscriptions", message));
    }
    this.#waiting += 1;
    this.#turn = (this.#turn ?? Promise.resolve()).then(work);
    await this.#turn;
    this.#waiting -= 1;
    if (this.#waiting > 0) return;
    this.#turn = undefined;
    this.#settle();
  }

  /** A snapshot always comes first. */
  #sendHeartbeat(): void {
    const before = this.#forOne && this.#outbox.seats.length === 0;
    this.#owesHeartbeat = before;
    if (!before && this.writable) this.deliver([this.#hub.egress.heartbeat(textMessage)]);
  }

  #leave(reason: EndReason): void {
    this.#closed ??= reason;
    this.#cancelIdle?.();
    for (const seat of this.#outbox.seats) seat.leave(reason);
  }

  /** Closes. Who is done gets his last frame first, however long the line takes for it. */
  #finish(reason: EndReason): void {
    if (this.#closed) return;
    this.#leave(reason);
    const { code } = reason;
    const text = Buffer.from(reason.reason).subarray(0, MAX_REASON_BYTES).toString();
    if (code !== CloseCode.done || this.#socket.writableLength === 0) this.close(code, text);
    else this.#socket.write(NOTHING, () => this.close(code, text));
  }
}
