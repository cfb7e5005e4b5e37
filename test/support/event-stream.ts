import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from "node:http";
import type { Readable } from "node:stream";
import { onTestFinished } from "vitest";
import { FrameReader } from "./frame-reader.js";
import { inTime } from "./wait.js";

/** One event of a stream, as an EventSource would dispatch it. */
export interface StreamEvent {
  type: string;
  /** The `id` of this event; undefined: it has none of its own. */
  id: string | undefined;
  data: Buffer;
}

const LF = 10;
const CR = 13;

/**
 * Reads `text/event-stream` by the rules of the WHATWG (HTML §9.2.6), and more strictly where
 * PROTOCOL.md is: lines end in LF, and there is no field that an EventSource would ignore. Throws
 * on the first thing that is not so.
 */
class EventStreamParser {
  readonly events: StreamEvent[] = [];
  /** Every `retry`, in milliseconds. */
  readonly retries: number[] = [];
  /** What an EventSource would send as `Last-Event-ID`. */
  lastEventId = "";
  #line: Buffer = Buffer.alloc(0);
  #type = "";
  #id: string | undefined;
  #data: Buffer[] = [];

  /** Bytes of an event that is not complete: at the end of a stream they are lost. */
  get rest(): number {
    return this.#line.length + this.#data.length;
  }

  write(chunk: Buffer): void {
    let bytes = Buffer.concat([this.#line, chunk]);
    for (let end = bytes.indexOf(LF); end >= 0; end = bytes.indexOf(LF)) {
      this.#field(bytes.subarray(0, end));
      bytes = bytes.subarray(end + 1);
    }
    this.#line = bytes;
  }

  #field(line: Buffer): void {
    if (line.includes(CR)) throw new Error("a line of an event stream contains CR");
    if (line.length === 0) return this.#dispatch();
    if (line[0] === 58) return; // a comment
    const colon = line.indexOf(58);
    const name = (colon < 0 ? line : line.subarray(0, colon)).toString();
    let value = colon < 0 ? Buffer.alloc(0) : line.subarray(colon + 1);
    if (value[0] === 32) value = value.subarray(1);
    if (name === "event") this.#type = value.toString();
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes(0)) this.#id = value.toString();
    else if (name === "retry" && /^\d+$/.test(value.toString())) this.retries.push(Number(value));
    else throw new Error(`a field that an EventSource ignores: ${line.toString().slice(0, 80)}`);
  }

  #dispatch(): void {
    if (this.#id !== undefined) this.lastEventId = this.#id;
    if (this.#data.length > 0) {
      const newline = Buffer.from("\n");
      const data = Buffer.concat(
        this.#data.flatMap((line, at) => (at > 0 ? [newline, line] : [line])),
      );
      this.events.push({ type: this.#type || "message", id: this.#id, data });
    }
    this.#type = "";
    this.#id = undefined;
    this.#data = [];
  }
}

/** A viewer over server-sent events: keeps the raw bytes, the events and their frames. */
export class EventStream extends FrameReader {
  readonly headers: IncomingHttpHeaders;
  readonly parser = new EventStreamParser();
  readonly #chunks: Buffer[] = [];
  readonly #body: Readable;
  readonly #ended: Promise<"complete" | "cut">;

  /** `body` brings the bytes of the events; destroying it ends the connection. */
  constructor(headers: IncomingHttpHeaders, body: Readable) {
    super();
    this.headers = headers;
    this.#body = body;
    this.#ended = new Promise((resolve) => {
      const over = (how: "complete" | "cut") => () => {
        resolve(how);
        this.end(`the stream is ${how}`);
      };
      body.on("end", over("complete"));
      body.on("close", over("cut"));
      body.on("error", over("cut"));
    });
    body.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      const from = this.events.length;
      try {
        this.parser.write(chunk);
      } catch (error) {
        this.end(String(error));
        body.destroy();
      }
      for (const { data } of this.events.slice(from)) this.push(data);
    });
  }

  get events(): readonly StreamEvent[] {
    return this.parser.events;
  }

  /** Everything that came, as bytes, without what HTTP puts around it. */
  get raw(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  /** How the stream ends: as the server means it to, or in the middle. */
  get ended(): Promise<"complete" | "cut"> {
    return inTime("the end of the stream", this.#ended, 8_000);
  }

  /** Cuts the connection without a goodbye. */
  abort(): void {
    this.#body.destroy();
  }
}

/**
 * Opens an event stream on a connection of its own; resolves when the answer has begun, rejects
 * when it is no stream. Cut at the end of the test.
 */
export function openStream(
  port: number,
  path: string,
  headers: OutgoingHttpHeaders = {},
): Promise<EventStream> {
  const opened = new Promise<EventStream>((resolve, reject) => {
    const all = { accept: "text/event-stream", ...headers };
    const sent = request({ host: "127.0.0.1", port, path, headers: all, agent: false });
    onTestFinished(() => void sent.destroy());
    sent.on("error", reject);
    sent.on("response", (response) => {
      const type = response.headers["content-type"];
      if (response.statusCode === 200 && type?.startsWith("text/event-stream")) {
        resolve(new EventStream(response.headers, response));
      } else {
        response.resume();
        reject(new Error(`${response.statusCode} ${type} instead of an event stream`));
      }
    });
    sent.end();
  });
  return inTime(`the event stream ${path.slice(0, 80)}`, opened, 10_000);
}
