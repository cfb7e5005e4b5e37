import type { Frame, FrameType } from "@org/workflow-monitor";
import { as, type FrameOf } from "./frames.js";
import { inTime } from "./wait.js";

/** What a viewer got, whatever brought it, and how a test reads it. */
export class FrameReader {
  /** The JSON text of every frame so far, heartbeats too. */
  readonly payloads: Buffer[] = [];
  /** The same as frames. */
  readonly frames: Frame[] = [];
  #at = 0;
  #over: string | undefined;
  #wake = () => {};

  protected push(payload: Buffer): void {
    this.payloads.push(payload);
    this.frames.push(JSON.parse(payload.toString()) as Frame);
    this.#wake();
  }

  /** Nothing more comes; `why` is told to a test that waits for a frame. */
  protected end(why: string): void {
    this.#over ??= why;
    this.#wake();
  }

  /** The next frame that was not read yet, heartbeats left out. */
  async next(): Promise<Frame> {
    const frame = await this.#poll();
    if (!frame) throw new Error(`${this.#over} instead of a frame`);
    return frame;
  }

  /** The JSON text of the next frame; undefined: nothing more comes. */
  async nextText(): Promise<string | undefined> {
    return (await this.#poll()) && this.text;
  }

  /** The next frame, which must be of this type. */
  async expect<T extends FrameType>(type: T): Promise<FrameOf<T>> {
    return as(type, await this.next());
  }

  /** Reads until a frame fits; returns all that were read, that one the last. */
  async readUntil(fits: (frame: Frame) => boolean): Promise<Frame[]> {
    const read: Frame[] = [];
    for (;;) {
      const frame = await this.next();
      read.push(frame);
      if (fits(frame)) return read;
    }
  }

  /** Reads until the connection is closed; returns all that were read. */
  async readToEnd(): Promise<Frame[]> {
    const read: Frame[] = [];
    for (;;) {
      const frame = await this.#poll();
      if (!frame) return read;
      read.push(frame);
    }
  }

  /** What was read last, as bytes and as text. */
  get payload(): Buffer {
    return this.payloads[this.#at - 1] ?? Buffer.alloc(0);
  }

  get text(): string {
    return this.payload.toString();
  }

  async #poll(): Promise<Frame | undefined> {
    for (;;) {
      const frame = this.frames[this.#at];
      if (frame) {
        this.#at += 1;
        if (frame.type !== "heartbeat") return frame;
      } else if (this.#over !== undefined) return undefined;
      else {
        await inTime(
          "a frame",
          new Promise<void>((resolve) => {
            this.#wake = resolve;
          }),
        );
      }
    }
  }
}
