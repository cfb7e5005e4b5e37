import type { Socket } from "node:net";
import type { Clock } from "@org/workflow-monitor";

/** How bytes pass. */
export interface Shape {
  latencyMs: number;
  sliceBytes: number;
  bytesPerSecond: number;
  blackHole: boolean;
  stopped: boolean;
}

export const FAIR: Readonly<Shape> = {
  latencyMs: 0,
  sliceBytes: Number.POSITIVE_INFINITY,
  bytesPerSecond: Number.POSITIVE_INFINITY,
  blackHole: false,
  stopped: false,
};
/** Bytes that a direction holds before it stops reading: a proxy must not hide a slow reader. */
const MOST_HELD = 64 * 1024;
const TRICKLE_MS = 20;

/** One direction of a proxied connection. */
export class Pipe {
  passed = 0;
  shape: Shape;
  readonly #source: Socket;
  readonly #target: Socket;
  readonly #clock: Clock;
  readonly #held: { bytes: Buffer; due: number }[] = [];
  #heldBytes = 0;
  #sourceEnded = false;
  /** Waits for a timer, for the next turn, or for the target to drain. */
  #waiting = false;
  /** When it began to trickle, and how much went since. */
  #trickle = { since: 0, bytes: 0 };

  constructor(source: Socket, target: Socket, shape: Shape, clock: Clock) {
    this.#source = source;
    this.#target = target;
    this.#clock = clock;
    this.shape = shape;
    source.on("data", (bytes) => this.#take(bytes));
    source.on("end", () => {
      this.#sourceEnded = true;
      this.#pump();
    });
    this.#flow();
  }

  change(change: Partial<Shape>): void {
    this.shape = { ...this.shape, ...change };
    this.#startTrickle();
    this.#flow();
    this.#pump();
  }

  /** Loses what it holds, and passes on nothing more. */
  close(): void {
    this.#held.length = 0;
    this.#heldBytes = 0;
    this.change({ ...FAIR, blackHole: true });
  }

  #take(bytes: Buffer): void {
    if (this.shape.blackHole) return;
    if (this.#held.length === 0) this.#startTrickle();
    this.#held.push({ bytes, due: this.#clock.now() + this.shape.latencyMs });
    this.#heldBytes += bytes.length;
    this.#flow();
    this.#pump();
  }

  #flow(): void {
    if (this.shape.stopped || this.#heldBytes >= MOST_HELD) this.#source.pause();
    else this.#source.resume();
  }

  #pump(): void {
    while (!this.#waiting) {
      const [first] = this.#held;
      if (!first) {
        if (this.#sourceEnded && !this.shape.blackHole) this.#target.end();
        return;
      }
      const wait = first.due - this.#clock.now();
      const size = Math.min(first.bytes.length, this.shape.sliceBytes, this.#allowance());
      if (wait > 0) this.#later((go) => this.#clock.setTimeout(go, wait));
      else if (size < 1) this.#later((go) => this.#clock.setTimeout(go, TRICKLE_MS));
      else this.#pass(first, size);
    }
  }

  #pass(first: { bytes: Buffer }, size: number): void {
    const part = first.bytes.subarray(0, size);
    first.bytes = first.bytes.subarray(size);
    if (first.bytes.length === 0) this.#held.shift();
    this.#heldBytes -= size;
    this.#trickle.bytes += size;
    this.passed += size;
    if (!this.#target.write(part)) this.#later((go) => this.#target.once("drain", go));
    else if (this.shape.sliceBytes < MOST_HELD) this.#later(setImmediate);
    this.#flow();
  }

  #later(arrange: (go: () => void) => unknown): void {
    this.#waiting = true;
    arrange(() => {
      this.#waiting = false;
      this.#pump();
    });
  }

  #startTrickle(): void {
    this.#trickle = { since: this.#clock.now(), bytes: 0 };
  }

  #allowance(): number {
    const { bytesPerSecond } = this.shape;
    if (bytesPerSecond === Number.POSITIVE_INFINITY) return bytesPerSecond;
    const { since, bytes } = this.#trickle;
    return Math.floor(((this.#clock.now() - since) * bytesPerSecond) / 1_000) - bytes;
  }
}
