import { onTestFinished } from "vitest";
import { type ClientOptions, WebSocket } from "ws";
import { FrameReader } from "./frame-reader.js";
import { inTime } from "./wait.js";

interface Closed {
  code: number;
  reason: string;
}

/** A WebSocket client that keeps what it gets. */
export class Viewer extends FrameReader {
  readonly socket: WebSocket;
  /** When the handshake is done; rejects when it was refused. */
  readonly opened: Promise<void>;
  readonly #closed: Promise<Closed>;

  constructor(socket: WebSocket) {
    super();
    this.socket = socket;
    this.opened = new Promise<void>((resolve, reject) => {
      socket.once("open", resolve);
      socket.once("error", reject);
    });
    this.opened.catch(() => {});
    this.#closed = new Promise<Closed>((resolve) => {
      socket.once("close", (code, bytes) => {
        const reason = bytes.toString();
        resolve({ code, reason });
        this.end(`closed ${code} ${reason}`);
      });
    });
    socket.on("error", () => {});
    socket.on("message", (data) => this.push(data as Buffer));
  }

  get closed(): Promise<Closed> {
    return inTime("the close", this.#closed, 8_000);
  }
}

/** Opens a WebSocket viewer. Terminated at the end of the test. */
export function connect(
  url: string,
  protocols: string[] = [],
  options: ClientOptions = {},
): Viewer {
  const socket = new WebSocket(url, protocols, { perMessageDeflate: false, ...options });
  onTestFinished(() => socket.terminate());
  return new Viewer(socket);
}
