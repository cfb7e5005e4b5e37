import { connect, type Socket } from "node:net";
import type { Target } from "./messages.js";

/** All sockets of this process read into it: what is read is looked at before the next read. */
const shared = Buffer.allocUnsafeSlow(256 * 1024);

/** Whom viewers tell. */
export interface Audience {
  target: Target;
  /** The viewer is connected, and has what a newcomer gets. */
  onReady(viewer: Viewer): void;
  onUpdates(viewer: Viewer, count: number): void;
  /** The size of a message that brought updates. */
  onMessage(bytes: number): void;
}

/**
 * As much of a client as it takes to count updates: cheap, so that it does not slow the servers down.
 * This much is common to all: a request, the head of its answer, and then a stream.
 */
export abstract class Viewer {
  updates = 0;
  readonly audience: Audience;
  readonly #socket: Socket;
  readonly #status: string;
  #head: string | undefined = "";
  #ready = false;

  /** `fields`: of the request, each ending in CRLF. `status`: of the answer. */
  constructor(audience: Audience, fields: string, status: number) {
    this.audience = audience;
    this.#status = `HTTP/1.1 ${status}`;
    const { to, path } = audience.target;
    this.#socket = connect({
      ...to,
      onread: {
        buffer: shared,
        callback: (count) => {
          this.#read(shared.subarray(0, count));
          return true;
        },
      },
    });
    this.#socket.on("error", (error) => this.fail(error.message));
    this.#socket.on("close", () => this.fail("the server closed the connection"));
    this.send(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n`);
  }

  /** The head of the answer is there. */
  protected abstract begin(): void;
  /** More of the stream: what is in the chunk from `at` on. */
  protected abstract take(chunk: Buffer, at: number): void;

  protected send(bytes: string | Buffer): void {
    this.#socket.write(bytes);
  }

  protected count(updates: number, bytes: number): void {
    this.audience.onMessage(bytes);
    this.audience.onUpdates(this, updates);
  }

  /** The first one makes the viewer ready; those that resume stand for the updates whose events they bring. */
  protected takeSnapshot(json: string): void {
    const { events, resumed } = JSON.parse(json) as { events: unknown[]; resumed: boolean };
    if (!this.#ready) this.audience.onReady(this);
    else if (!resumed) this.fail("updates were lost");
    this.#ready = true;
    if (resumed) this.count(events.length, json.length);
  }

  protected fail(why: string): never {
    throw new Error(`A viewer of ${this.audience.target.path} failed: ${why}`);
  }

  #read(chunk: Buffer): void {
    if (this.#head === undefined) return this.take(chunk, 0);
    const before = this.#head.length;
    this.#head += chunk.toString("latin1");
    const end = this.#head.indexOf("\r\n\r\n");
    if (end === -1) return;
    if (!this.#head.startsWith(this.#status)) this.fail(`it got ${this.#head}`);
    this.#head = undefined;
    this.begin();
    this.take(chunk, end + 4 - before);
  }
}
