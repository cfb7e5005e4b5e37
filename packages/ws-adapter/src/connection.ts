import type { Socket } from "node:net";
import {
  type Beating,
  type Codec,
  type Cursor,
  type Egress,
  type EndReason,
  encodeError,
  type Member,
  type Mode,
  refusals,
  type Seat,
  type WatchRequest,
  WorkflowMonitorError,
} from "@org/workflow-monitor";
import { type RawData, WebSocket } from "ws";
import { textMessage } from "./codec.js";

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

const NO_PONG: EndReason = { code: 4001, reason: "no pong" };

/** What the connections of one adapter share. */
export interface Hub {
  readonly egress: Egress;
  readonly connections: Set<Connection>;
  /** Called when the last one is gone. */
  onEmpty(): void;
}

/**
 * One viewer's socket: a `WebSocket` that is a member of its job's room. Frames go to the `net.Socket`
 * as they are, already in WebSocket framing: no copy and no encoding for each viewer. Control frames
 * are left to `ws`, on the same socket. There is one of these for each viewer, so it is kept small:
 * listeners are shared functions, and `drain` is listened to only when there is something to drain.
 */
export class Connection extends WebSocket implements Member, Beating {
  mode: Mode = "full";
  #hub!: Hub;
  #socket!: Socket;
  #slot = 0;
  #seat: Seat | undefined;
  #closed: EndReason | undefined;
  #draining = false;
  /** A ping came before the first frame: its answer comes after it. */
  #owesHeartbeat = false;
  /** Heard from the peer since the last beat. */
  #heard = true;
  #silentBeats = 0;

  /** After the handshake, before anything is awaited: what comes meanwhile is not lost. */
  begin(hub: Hub, socket: Socket, mode: Mode): void {
    this.#hub = hub;
    this.#socket = socket;
    this.mode = mode;
    this.#slot = hub.egress.heartbeats.add(this);
    hub.connections.add(this);
    this.on("message", Connection.#onMessage);
    this.on("pong", Connection.#onPong);
    this.on("error", Connection.#onError);
    this.on("close", Connection.#onClose);
  }

  get codec(): Codec {
    return textMessage;
  }

  get writable(): boolean {
    const { writableLength, writableHighWaterMark } = this.#socket;
    // Below its own mark a socket never says that it has drained.
    const limit = Math.max(this.#hub.egress.inFlightBytes, writableHighWaterMark);
    return this.readyState === WebSocket.OPEN && writableLength < limit;
  }

  write(parts: readonly Uint8Array[]): void {
    if (this.readyState !== WebSocket.OPEN) return; // after a close frame nothing may follow
    const socket = this.#socket;
    let taken = true;
    if (parts.length === 1) taken = socket.write(parts[0] as Uint8Array);
    else {
      socket.cork();
      for (const part of parts) taken = socket.write(part);
      socket.uncork();
    }
    if (taken || this.#draining) return;
    this.#draining = true;
    socket.once("drain", () => {
      this.#draining = false;
      this.#seat?.resume();
    });
  }

  end({ code, reason }: EndReason): void {
    this.close(code, Buffer.from(reason).subarray(0, MAX_REASON_BYTES).toString());
  }

  /** Joins the job's room, from `after` on, or says why not. */
  async watch(request: WatchRequest, after: Cursor | null): Promise<void> {
    try {
      const seat = await this.#hub.egress.join(request, this, after);
      this.#seat = seat;
      if (this.#closed) seat.leave(this.#closed);
      else if (this.#owesHeartbeat) this.#sendHeartbeat();
    } catch (thrown) {
      this.refuse(thrown as WorkflowMonitorError);
    }
  }

  /** An `error` frame, which tells more than a close code, and the close. */
  refuse(error: WorkflowMonitorError): void {
    this.write([encodeError(textMessage, error)]);
    this.end({ code: refusals[error.code].close, reason: error.message });
  }

  beat(late: boolean): void {
    this.#silentBeats = this.#heard || late ? 0 : this.#silentBeats + 1;
    this.#heard = false;
    if (this.#silentBeats >= 2) {
      this.#leave(NO_PONG);
      this.terminate();
      return;
    }
    this.#sendHeartbeat();
    if (this.writable) this.ping();
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
    connection.#leave({ code, reason: reason.toString() });
    const { connections } = connection.#hub;
    connections.delete(connection);
    if (connections.size === 0) connection.#hub.onEmpty();
  }

  #receive(text: string, isBinary: boolean): void {
    this.#heard = true;
    if (isBinary) return this.#refuseMessage("Messages are JSON texts, not binary.");
    let message: unknown;
    try {
      message = JSON.parse(text);
    } catch {
      return this.#refuseMessage("A message is not JSON.");
    }
    if (typeof message !== "object" || message === null || Array.isArray(message)) {
      return this.#refuseMessage("A message must be a JSON object with a type.");
    }
    // Unknown types are ignored, so that the protocol can grow.
    if ("type" in message && message.type === "ping") this.#sendHeartbeat();
  }

  /** A snapshot always comes first. */
  #sendHeartbeat(): void {
    this.#owesHeartbeat = !this.#seat;
    if (this.#seat && this.writable) this.write([this.#hub.egress.heartbeat(textMessage)]);
  }

  #refuseMessage(message: string): void {
    const reason = new WorkflowMonitorError("bad_request", message);
    this.refuse(reason);
    this.#leave({ code: 4400, reason: message });
  }

  #leave(reason: EndReason): void {
    this.#closed ??= reason;
    this.#hub.egress.heartbeats.remove(this, this.#slot);
    this.#seat?.leave(reason);
  }
}
