import { type Audience, Viewer } from "./viewer.js";

const LF = 10;
/** How much of a chunk tells whether it is an update, with or without a space after the colon. */
const TELLING = 14;
const UPDATE = /^event: ?update\n/;
/** The end of an event and of its chunk: LF LF CR LF. */
const END = 0x0a0a0d0a;
const END_BYTES = 4;

/**
 * A viewer of server-sent events over HTTP/1.1. Each event comes as a chunk of its own, so an update
 * is told by its beginning, and skipped; only other chunks are read line by line.
 */
export class SseViewer extends Viewer {
  /** The beginning of a chunk: its size, and as much of its text as tells what it is. */
  readonly #start = Buffer.allocUnsafeSlow(16 + TELLING);
  #started = 0;
  /** Where in there the chunk's text begins; 0: the size is not complete. */
  #header = 0;
  #size = 0;
  /** How much of the chunk, and of the CRLF behind it, is to come. */
  #left = 0;
  /** The last bytes of an update. */
  #end = 0;
  /** The whole chunk, when it is no update. */
  #kept: Buffer[] | undefined;

  constructor(audience: Audience) {
    super(audience, "Accept: text/event-stream\r\n", 200);
  }

  protected begin(): void {
    // Ready with the first snapshot.
  }

  protected take(chunk: Buffer, from: number): void {
    let at = from;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        if (this.#kept) this.#kept.push(Buffer.from(chunk.subarray(at, end)));
        else this.#readEnd(chunk, Math.max(at, end + this.#left - END_BYTES), end);
        at = end;
        if (this.#left === 0) this.#finish();
      } else at = this.#readStart(chunk, at);
    }
  }

  #readStart(chunk: Buffer, from: number): number {
    const start = this.#start;
    let at = from;
    while (at < chunk.length) {
      const byte = chunk[at] as number;
      start[this.#started] = byte;
      this.#started += 1;
      at += 1;
      if (this.#header === 0) {
        if (byte !== LF) continue;
        this.#header = this.#started;
        this.#size = Number.parseInt(start.toString("latin1", 0, this.#header), 16);
        if (!(this.#size > 0)) this.fail("the stream ended");
        continue;
      }
      const telling = Math.min(this.#size, TELLING);
      if (this.#started < this.#header + telling) continue;
      const text = start.toString("latin1", this.#header, this.#started);
      this.#kept = UPDATE.test(text) ? undefined : [Buffer.from(text, "latin1")];
      this.#left = this.#size - telling + 2;
      this.#started = 0;
      this.#header = 0;
      return at;
    }
    return at;
  }

  /** Its last four bytes may come in two reads. */
  #readEnd(chunk: Buffer, from: number, to: number): void {
    for (let at = from; at < to; at++) this.#end = ((this.#end << 8) | (chunk[at] as number)) >>> 0;
  }

  #finish(): void {
    if (this.#kept) {
      const text = Buffer.concat(this.#kept).toString();
      this.#kept = undefined;
      for (const event of text.split("\n\n")) this.#takeEvent(event);
      return;
    }
    if (this.#end !== END) this.fail("an event did not end with its chunk");
    this.count(1, this.#size);
  }

  /** A snapshot; comments, `retry` and heartbeats tell this viewer nothing. */
  #takeEvent(text: string): void {
    const field = (name: string) => new RegExp(`^${name}: ?(.*)$`, "m").exec(text)?.[1];
    const event = field("event");
    if (event === "snapshot") this.takeSnapshot(Buffer.from(field("data") ?? ""));
    else if (event !== undefined && event !== "heartbeat") this.fail(`it got ${text}`);
  }
}
