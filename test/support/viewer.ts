import type { Frame, FrameType } from "@org/workflow-monitor";
import { onTestFinished } from "vitest";
import { type ClientOptions, WebSocket } from "ws";
import { as, type FrameOf } from "./frames.js";
import { inTime } from "./wait.js";

interface Closed {
  code: number;
  reason: string;
}

export interface Viewer {
  readonly socket: WebSocket;
  /** The payload of every message so far, heartbeats too. */
  readonly payloads: readonly Buffer[];
  /** The same as frames. */
  readonly frames: readonly Frame[];
  /** When the handshake is done; rejects when it was refused. */
  readonly opened: Promise<void>;
  readonly closed: Promise<Closed>;
  /** The next frame that was not read yet, heartbeats left out. */
  next(): Promise<Frame>;
  /** The next frame, which must be of this type. */
  expect<T extends FrameType>(type: T): Promise<FrameOf<T>>;
  /** Reads until a frame fits; returns all that were read, that one the last. */
  readUntil(fits: (frame: Frame) => boolean): Promise<Frame[]>;
  /** Reads until the connection is closed; returns all that were read. */
  readToEnd(): Promise<Frame[]>;
  /** What was read last, as bytes and as text. */
  readonly payload: Buffer;
  readonly text: string;
}

/** A WebSocket client that keeps what it gets. Terminated at the end of the test. */
export function connect(
  url: string,
  protocols: string[] = [],
  options: ClientOptions = {},
): Viewer {
  const socket = new WebSocket(url, protocols, { perMessageDeflate: false, ...options });
  onTestFinished(() => socket.terminate());
  const payloads: Buffer[] = [];
  const frames: Frame[] = [];
  let at = 0;
  let over: Closed | undefined;
  let wake = () => {};

  const opened = new Promise<void>((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
  });
  opened.catch(() => {});
  const closed = new Promise<Closed>((resolve) => {
    socket.once("close", (code, reason) => {
      over = { code, reason: reason.toString() };
      resolve(over);
      wake();
    });
  });
  socket.on("error", () => {});
  socket.on("message", (data) => {
    payloads.push(data as Buffer);
    frames.push(JSON.parse(String(data)) as Frame);
    wake();
  });

  async function poll(): Promise<Frame | undefined> {
    for (;;) {
      const frame = frames[at];
      if (frame) {
        at += 1;
        if (frame.type !== "heartbeat") return frame;
      } else if (over) return undefined;
      else {
        await inTime(
          "a frame",
          new Promise<void>((resolve) => {
            wake = resolve;
          }),
        );
      }
    }
  }

  const viewer: Viewer = {
    socket,
    payloads,
    frames,
    opened,
    get closed() {
      return inTime("the close", closed, 8_000);
    },
    async next() {
      const frame = await poll();
      if (!frame) throw new Error(`closed ${over?.code} ${over?.reason} instead of a frame`);
      return frame;
    },
    async expect(type) {
      return as(type, await viewer.next());
    },
    async readUntil(fits) {
      const read: Frame[] = [];
      for (;;) {
        const frame = await viewer.next();
        read.push(frame);
        if (fits(frame)) return read;
      }
    },
    async readToEnd() {
      const read: Frame[] = [];
      for (;;) {
        const frame = await poll();
        if (!frame) return read;
        read.push(frame);
      }
    },
    get payload() {
      return payloads[at - 1] ?? Buffer.alloc(0);
    },
    get text() {
      return viewer.payload.toString();
    },
  };
  return viewer;
}
