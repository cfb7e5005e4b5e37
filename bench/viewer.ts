import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import type { FanOutSubject } from "./messages.js";
import { JOB_ID } from "./payload.js";

/** As much of a WebSocket client as it takes to count updates: cheap, so that it does not slow the servers down. */

const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
/** How much of a message tells what it is. */
const TELLING = 18;

/** All sockets of this process read into it: what is read is looked at before the next read. */
const shared = Buffer.allocUnsafeSlow(256 * 1024);

export interface Audience {
  subject: FanOutSubject;
  port: number;
  onReady(): void;
  onUpdates(viewer: Viewer, count: number): void;
  onMessage(bytes: number): void;
}

export class Viewer {
  updates = 0;
  readonly #audience: Audience;
  readonly #socket: Socket;
  #handshake: string | undefined = "";
  /** The beginning of a frame: its header, and as much of its text as tells what it is. */
  readonly #start = Buffer.allocUnsafeSlow(10 + 125);
  #started = 0;
  /** How much of the frame is to come; whole ones are kept when their text counts. */
  #left = 0;
  #kept: Buffer[] | undefined;

  constructor(audience: Audience) {
    this.#audience = audience;
    this.#socket = connect({
      host: "127.0.0.1",
      port: audience.port,
      onread: {
        buffer: shared,
        callback: (count) => {
          this.#read(shared.subarray(0, count));
          return true;
        },
      },
    });
    this.#socket.on("error", (error) => this.#fail(error.message));
    this.#socket.on("close", () => this.#fail("the server closed the connection"));
    const key = randomBytes(16).toString("base64");
    this.#socket.write(
      `GET ${path(audience.subject)} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
  }

  #fail(why: string): never {
    throw new Error(`A viewer of ${this.#audience.subject} failed: ${why}`);
  }

  #read(chunk: Buffer): void {
    let at = this.#handshake === undefined ? 0 : this.#readHandshake(chunk);
    while (at < chunk.length) {
      if (this.#left > 0) {
        const end = Math.min(chunk.length, at + this.#left);
        this.#kept?.push(Buffer.from(chunk.subarray(at, end)));
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) this.#finish();
      } else at = this.#readStart(chunk, at);
    }
  }

  #readHandshake(chunk: Buffer): number {
    const before = this.#handshake?.length ?? 0;
    this.#handshake += chunk.toString("latin1");
    const end = this.#handshake?.indexOf("\r\n\r\n") ?? -1;
    if (end === -1) return chunk.length;
    if (!this.#handshake?.startsWith("HTTP/1.1 101")) this.#fail(`it got ${this.#handshake}`);
    this.#handshake = undefined;
    const { subject } = this.#audience;
    if (subject === "ws" || subject === "floor") this.#audience.onReady();
    return end + 4 - before;
  }

  #readStart(chunk: Buffer, from: number): number {
    const start = this.#start;
    let at = from;
    while (at < chunk.length) {
      start[this.#started] = chunk[at] as number;
      this.#started += 1;
      at += 1;
      if (this.#started < 2) continue;
      const short = (start[1] as number) & 127;
      const header = short === 127 ? 10 : short === 126 ? 4 : 2;
      if (this.#started < header) continue;
      const length =
        short === 127
          ? Number(start.readBigUInt64BE(2))
          : short === 126
            ? start.readUInt16BE(2)
            : short;
      const opcode = (start[0] as number) & 15;
      const telling = opcode === TEXT ? Math.min(length, TELLING) : length;
      if (this.#started < header + telling) continue;
      this.#started = 0;
      this.#left = length - telling;
      this.#begin(opcode, start.subarray(header, header + telling), length);
      if (this.#left === 0) this.#finish();
      return at;
    }
    return at;
  }

  /** A frame of which enough is there to tell what it is. */
  #begin(opcode: number, telling: Buffer, length: number): void {
    if (opcode === PING) this.#send(PONG, telling);
    if (opcode === CLOSE) this.#fail(`close frame ${telling.subarray(2).toString()}`);
    if (opcode !== TEXT) return;
    const text = telling.toString("latin1");
    if (this.#audience.subject === "socket.io") this.#beginSocketIo(text, length);
    else if (text.startsWith('{"type":"update"')) this.#count(1, length);
    else if (text.startsWith('{"type":"snapshot"')) this.#kept = [Buffer.from(telling)];
    else if (!text.startsWith('{"type":"heartbea')) this.#fail(`it got ${text}`);
  }

  #beginSocketIo(text: string, length: number): void {
    if (text.startsWith("42")) this.#count(1, length);
    else if (text.startsWith("40")) this.#audience.onReady();
    else if (text.startsWith("0")) this.#send(TEXT, Buffer.from("40"));
    else if (text === "2") this.#send(TEXT, Buffer.from("3"));
    else this.#fail(`it got ${text}`);
  }

  /** A frame is complete. A snapshot stands for the updates whose events it brings. */
  #finish(): void {
    if (!this.#kept) return;
    const text = Buffer.concat(this.#kept);
    this.#kept = undefined;
    const { events, resumed } = JSON.parse(text.toString()) as {
      events: unknown[];
      resumed: boolean;
    };
    if (resumed) this.#count(events.length, text.length);
    else this.#audience.onReady();
  }

  #count(updates: number, bytes: number): void {
    this.#audience.onMessage(bytes);
    this.#audience.onUpdates(this, updates);
  }

  #send(opcode: number, payload: Buffer): void {
    const head = Buffer.from([0x80 | opcode, 0x80 | payload.length, 0, 0, 0, 0]); // a mask of zeros
    this.#socket.write(Buffer.concat([head, payload]));
  }
}

function path(subject: FanOutSubject): string {
  if (subject === "socket.io") return "/socket.io/?EIO=4&transport=websocket";
  if (subject === "ours") return `/ws?jobId=${JOB_ID}`;
  if (subject === "ours-delta") return `/ws?jobId=${JOB_ID}&mode=delta`;
  return "/";
}
