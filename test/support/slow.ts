import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import type { Frame } from "@org/workflow-monitor";
import { onTestFinished } from "vitest";
import { inTime } from "./wait.js";

/** How a slow client asks. */
export type SlowKind = "ws" | "sse" | "http";

export interface SlowClient {
  readonly socket: Socket;
  /** The JSON text of each frame that was read so far; of plain HTTP nothing. */
  readonly texts: readonly string[];
  readonly frames: Frame[];
  /** Bytes read so far, and the last of them as text. */
  readonly bytes: number;
  readonly tail: string;
  readonly closed: boolean;
  /** The close code that a WebSocket was told. */
  readonly closeCode: number | undefined;
  /** Reads as fast as it comes, until `stop`. */
  read(): void;
  /** Reads so many bytes, as soon as they are there. */
  readSome(bytes: number): Promise<void>;
  /** Reads so many bytes every few milliseconds, until `stop`. */
  throttle(bytesPerTick: number): void;
  stop(): void;
}

const HEAD_END = Buffer.from("\r\n\r\n");
const TICK_MS = 4;
const TAIL = 500;

/** A TCP client that sends its request, and reads nothing at all until it is told to. */
export async function slowClient(
  port: number,
  path: string,
  kind: SlowKind = "ws",
  headers: Record<string, string> = {},
): Promise<SlowClient> {
  const socket = connect({ port, host: "127.0.0.1" });
  onTestFinished(() => {
    socket.destroy();
  });
  socket.on("error", () => {});
  await inTime("a connection", new Promise((resolve) => socket.once("connect", resolve)));
  socket.setNoDelay(true);
  const all: Record<string, string> = { Host: `127.0.0.1:${port}`, ...extra(kind), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  socket.write(`GET ${path} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);

  const texts: string[] = [];
  const frames: Frame[] = [];
  let bytes = 0;
  let tail = "";
  let closed = false;
  let closeCode: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  socket.on("close", () => {
    closed = true;
    clearInterval(timer);
  });
  const reader = new FrameReader(kind, {
    frame(text) {
      texts.push(text);
      frames.push(JSON.parse(text) as Frame);
    },
    close(code) {
      closeCode = code;
    },
  });
  const take = (chunk: Buffer | null) => {
    if (!chunk) return 0;
    bytes += chunk.length;
    tail = (tail + chunk.toString("latin1", Math.max(0, chunk.length - TAIL))).slice(-TAIL);
    reader.push(chunk);
    return chunk.length;
  };

  return {
    socket,
    texts,
    frames,
    get bytes() {
      return bytes;
    },
    get tail() {
      return tail;
    },
    get closed() {
      return closed;
    },
    get closeCode() {
      return closeCode;
    },
    read() {
      socket.on("data", take);
      socket.resume();
    },
    async readSome(count) {
      for (let left = count; left > 0 && !closed; ) {
        const taken = take(socket.read() as Buffer | null);
        left -= taken;
        if (taken === 0) {
          await new Promise((resolve) => {
            setTimeout(resolve, 1);
          });
        }
      }
    },
    throttle(bytesPerTick) {
      let credit = 0;
      timer = setInterval(() => {
        credit = Math.min(credit + bytesPerTick, 4 * bytesPerTick);
        while (credit > 0) {
          const taken = take(socket.read() as Buffer | null);
          if (taken === 0) break;
          credit -= taken;
        }
      }, TICK_MS);
    },
    stop() {
      clearInterval(timer);
      socket.off("data", take);
      socket.pause();
    },
  };
}

function extra(kind: SlowKind): Record<string, string> {
  if (kind === "sse") return { Accept: "text/event-stream" };
  if (kind === "http") return {};
  return {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
  };
}

interface Listener {
  frame(text: string): void;
  close(code: number): void;
}

/** Puts together what came in pieces. */
class FrameReader {
  readonly #kind: SlowKind;
  readonly #listener: Listener;
  #chunks: Buffer[] = [];
  #size = 0;
  /** With fewer bytes than this there is nothing to be read. */
  #need = 1;
  #head = true;
  #event = "";

  constructor(kind: SlowKind, listener: Listener) {
    this.#kind = kind;
    this.#listener = listener;
  }

  push(chunk: Buffer): void {
    if (this.#kind === "http") return;
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#need) return;
    const bytes = Buffer.concat(this.#chunks);
    let at = 0;
    for (;;) {
      const next = this.#one(bytes, at);
      if (next === undefined) break;
      at = next;
    }
    this.#chunks = [bytes.subarray(at)];
    this.#size = bytes.length - at;
  }

  /** Reads one piece; returns where the next begins, or undefined when it is not whole. */
  #one(bytes: Buffer, at: number): number | undefined {
    this.#need = bytes.length - at + 1;
    if (this.#head) {
      const end = bytes.indexOf(HEAD_END, at);
      if (end === -1) return undefined;
      this.#head = false;
      return end + HEAD_END.length;
    }
    return this.#kind === "ws" ? this.#message(bytes, at) : this.#chunk(bytes, at);
  }

  /** RFC 6455 §5.2: unmasked, never fragmented. */
  #message(bytes: Buffer, at: number): number | undefined {
    if (bytes.length < at + 10 && bytes.length < at + 2 + ((bytes[at + 1] ?? 0) & 127)) return;
    const opcode = (bytes[at] as number) & 15;
    let length = (bytes[at + 1] as number) & 127;
    let start = at + 2;
    if (length === 126) {
      length = bytes.readUInt16BE(start);
      start += 2;
    } else if (length === 127) {
      length = Number(bytes.readBigUInt64BE(start));
      start += 8;
    }
    this.#need = start - at + length;
    if (bytes.length < start + length) return undefined;
    const payload = bytes.subarray(start, start + length);
    if (opcode === 1) this.#listener.frame(payload.toString());
    else if (opcode === 8) this.#listener.close(payload.readUInt16BE(0));
    return start + length;
  }

  /** RFC 9112 §7.1. */
  #chunk(bytes: Buffer, at: number): number | undefined {
    const line = bytes.indexOf("\r\n", at);
    if (line === -1) return undefined;
    const length = Number.parseInt(bytes.toString("latin1", at, line), 16);
    const end = line + 2 + length;
    this.#need = end + 2 - at;
    if (bytes.length < end + 2) return undefined;
    this.#event += bytes.toString("utf8", line + 2, end);
    const events = this.#event.split("\n\n");
    this.#event = events.pop() as string;
    for (const event of events) {
      const data = event.split("\n").find((one) => one.startsWith("data: "));
      if (data) this.#listener.frame(data.slice("data: ".length));
    }
    return end + 2;
  }
}
