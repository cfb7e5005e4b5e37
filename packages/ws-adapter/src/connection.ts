import type { Socket } from "node:net";
import {
  type Beating,
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
import { WebSocket } from "ws";
import { textMessage } from "./codec.js";

/** A close frame's reason is at most 123 bytes: RFC 6455 §5.5. */
const MAX_REASON_BYTES = 123;
const NO_PONG: EndReason = { code: 4001, reason: "no pong" };

/**
 * One viewer's socket. Frames go to the `net.Socket` as they are, already in WebSocket framing: no
 * copy and no encoding for each viewer. Control frames are left to `ws`, on the same socket.
 */
export class Connection implements Member, Beating {
  readonly codec = textMessage;
  readonly mode: Mode;
  readonly #ws: WebSocket;
  readonly #socket: Socket;
  readonly #egress: Egress;
  readonly #slot: number;
  #seat: Seat | undefined;
  #closed: EndReason | undefined;
  /** Heard from the peer since the last beat. */
  #heard = true;
  #silentBeats = 0;

  constructor(ws: WebSocket, socket: Socket, egress: Egress, mode: Mode, onClose: () => void) {
    this.#ws = ws;
    this.#socket = socket;
    this.#egress = egress;
    this.mode = mode;
    this.#slot = egress.heartbeats.add(this);
    // Attached before anything is awaited: what comes meanwhile is not lost.
    ws.on("message", (data, isBinary) => this.#receive(String(data), isBinary));
    ws.on("pong", () => {
      this.#heard = true;
    });
    ws.on("error", () => {}); // ws closes with the right code by itself
    socket.on("drain", () => this.#seat?.resume());
    ws.on("close", (code, reason) => {
      this.#leave({ code: code as EndReason["code"], reason: reason.toString() });
      onClose();
    });
  }

  get writable(): boolean {
    return (
      this.#ws.readyState === WebSocket.OPEN &&
      this.#socket.writableLength < this.#egress.inFlightBytes
    );
  }

  write(parts: readonly Uint8Array[]): void {
    if (this.#ws.readyState !== WebSocket.OPEN) return; // after a close frame nothing may follow
    const socket = this.#socket;
    if (parts.length === 1) {
      socket.write(parts[0] as Uint8Array);
      return;
    }
    socket.cork();
    for (const part of parts) socket.write(part);
    socket.uncork();
  }

  end({ code, reason }: EndReason): void {
    this.#ws.close(code, Buffer.from(reason).subarray(0, MAX_REASON_BYTES).toString());
  }

  /** Joins the job's room, from `after` on, or says why not. */
  async watch(request: WatchRequest, after: Cursor | null): Promise<void> {
    try {
      const seat = await this.#egress.join(request, this, after);
      if (this.#closed) seat.leave(this.#closed);
      else this.#seat = seat;
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
      this.#ws.terminate();
    } else if (this.writable) {
      this.write([this.#egress.heartbeat(textMessage)]);
      this.#ws.ping();
    }
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
    if ("type" in message && message.type === "ping" && this.writable) {
      this.write([this.#egress.heartbeat(textMessage)]);
    }
  }

  #refuseMessage(message: string): void {
    const reason = new WorkflowMonitorError("bad_request", message);
    this.refuse(reason);
    this.#leave({ code: 4400, reason: message });
  }

  #leave(reason: EndReason): void {
    this.#closed ??= reason;
    this.#egress.heartbeats.remove(this, this.#slot);
    this.#seat?.leave(reason);
  }
}
