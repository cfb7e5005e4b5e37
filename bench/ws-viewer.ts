import { randomBytes } from "node:crypto";
import { type Audience, Viewer } from "./viewer.js";

const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
/** How much of a message tells what it is. */
const TELLING = 18;

/** A viewer on a WebSocket. */
export class WebSocketViewer extends Viewer {
  /** The beginning of a frame: its header, and as much of its text as tells what it is. */
  readonly #start = Buffer.allocUnsafeSlow(10 + 125);
  #started = 0;
  /** The frame: its length, and how much of it is to come. */
  #length = 0;
  #left = 0;
  /** It is an update. */
  #update = false;
  /** The whole frame, when its text counts. */
  #kept: Buffer[] | undefined;

  constructor(audience: Audience) {
    const key = randomBytes(16).toString("base64");
    const fields = `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n`;
    super(audience, fields, 101);
  }

  protected begin(): void {
    if (this.audience.target.dialect === "bare") this.audience.onReady(this);
  }

  protected take(chunk: Buffer, from: number): void {
    let at = from;
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
      this.#length = length;
      this.#left = length - telling;
      this.#begin(opcode, start.subarray(header, header + telling));
      if (this.#left === 0) this.#finish();
      return at;
    }
    return at;
  }

  /** A frame of which enough is there to tell what it is. */
  #begin(opcode: number, telling: Buffer): void {
    if (opcode === PING) this.#answer(PONG, telling);
    if (opcode === CLOSE) this.fail(`close frame ${telling.subarray(2).toString()}`);
    if (opcode !== TEXT) return;
    const text = telling.toString("latin1");
    if (this.audience.target.dialect === "socket.io") this.#beginSocketIo(text);
    else if (text.startsWith('{"type":"update"')) this.#update = true;
    else if (text.startsWith('{"type":"snapshot"')) this.#kept = [Buffer.from(telling)];
    else if (!text.startsWith('{"type":"heartbea')) this.fail(`it got ${text}`);
  }

  #beginSocketIo(text: string): void {
    if (text.startsWith("42")) this.#update = true;
    else if (text.startsWith("40")) this.audience.onReady(this);
    else if (text.startsWith("0")) this.#answer(TEXT, Buffer.from("40"));
    else if (text === "2") this.#answer(TEXT, Buffer.from("3"));
    else this.fail(`it got ${text}`);
  }

  /** A frame is complete. A snapshot stands for the updates whose events it brings. */
  #finish(): void {
    if (this.#update) {
      this.#update = false;
      this.count(1, this.#length);
    }
    if (!this.#kept) return;
    const text = Buffer.concat(this.#kept);
    this.#kept = undefined;
    this.takeSnapshot(text);
  }

  #answer(opcode: number, payload: Buffer): void {
    const head = Buffer.from([0x80 | opcode, 0x80 | payload.length, 0, 0, 0, 0]); // a mask of zeros
    this.send(Buffer.concat([head, payload]));
  }
}
