import { connect, type Socket } from "node:net";
import type { Reads, Target } from "./messages.js";

/** All sockets of this process read into it: what is read is looked at before the next read. */
const shared = Buffer.allocUnsafeSlow(256 * 1024);

/** At least as long as what a snapshot frame has before its events. */
const ENVELOPE = 256;
const TYPED = Buffer.from('{"type":');

/** Whom viewers tell. */
export interface Audience {
  target: Target;
  reads: Reads;
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
  /** To what comes, and what becomes of the connection. */
  #indifferent = false;

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
    this.#socket.on("error", (error) => this.#gone(error.message));
    this.#socket.on("close", () => this.#gone("the server closed the connection"));
    this.send(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n`);
  }

  /** The head of the answer is there. */
  protected abstract begin(): void;
  /** More of the stream: what is in the chunk from `at` on. */
  protected abstract take(chunk: Buffer, at: number): void;

  leave(): void {
    this.#indifferent = true;
    this.#socket.destroy();
  }

  protected send(bytes: string | Buffer): void {
    this.#socket.write(bytes);
  }

  protected count(updates: number, bytes: number): void {
    this.audience.onMessage(bytes);
    this.audience.onUpdates(this, updates);
  }

  /** The first one makes the viewer ready; those that resume stand for the updates whose events they bring. */
  protected takeSnapshot(json: Buffer): void {
    const resumed = json.subarray(0, ENVELOPE).includes('"resumed":true');
    if (!this.#ready) {
      this.#ready = true;
      if (this.audience.reads === "snapshot") this.#stall();
      this.audience.onReady(this);
    } else if (!resumed) this.fail("updates were lost");
    if (resumed) this.count(objectsWithType(json) - 1, json.length);
  }

  protected fail(why: string): never {
    throw new Error(`A viewer of ${this.audience.target.path} failed: ${why}`);
  }

  /** Reads no more. */
  #stall(): void {
    this.#indifferent = true;
    this.#socket.pause();
  }

  #gone(why: string): void {
    if (!this.#indifferent) this.fail(why);
  }

  #read(chunk: Buffer): void {
    if (this.#indifferent) return;
    if (this.#head === undefined) return this.take(chunk, 0);
    const before = this.#head.length;
    this.#head += chunk.toString("latin1");
    const end = this.#head.indexOf("\r\n\r\n");
    if (end === -1) return;
    if (!this.#head.startsWith(this.#status)) this.fail(`it got ${this.#head}`);
    this.#head = undefined;
    if (this.audience.reads === "nothing") {
      this.#stall();
      this.audience.onReady(this);
      return;
    }
    this.begin();
    this.take(chunk, end + 4 - before);
  }
}

/** The frame and its events have a type, and nothing else has: this is cheaper than to parse it. */
function objectsWithType(json: Buffer): number {
  let count = 0;
  for (let at = json.indexOf(TYPED); at !== -1; at = json.indexOf(TYPED, at + 1)) count += 1;
  return count;
}
