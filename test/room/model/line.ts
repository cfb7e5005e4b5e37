import type { Clock, Egress, Outbox, Seat, Sink } from "@org/workflow-monitor";

/** How what is written to a connection leaves it. */
export interface Line {
  readonly writable: boolean;
  /** Nothing leaves. */
  readonly paused: boolean;
  /** Since when its oldest byte has been waiting, if any. */
  readonly waitsSince: number | undefined;
  write(parts: readonly Uint8Array[]): void;
  seated(seat: Seat): void;
  pause(): void;
  /** So much leaves, and no more. */
  drain(bytes: number): void;
  resume(): void;
  close(): void;
}

/** Takes everything, or nothing: how much is in flight is not its business. */
export function switchLine(): Line {
  let paused = false;
  let seat: Seat | undefined;
  return {
    get writable() {
      return !paused;
    },
    get paused() {
      return paused;
    },
    waitsSince: undefined,
    write() {},
    seated(taken) {
      seat = taken;
      if (!paused) seat.resume();
    },
    pause() {
      paused = true;
    },
    drain() {},
    resume() {
      paused = false;
      seat?.resume();
    },
    close() {},
  };
}

/** A socket of which nobody knows the end: it keeps what does not leave, and says when all has left. */
class ModelSink implements Sink {
  readonly writableHighWaterMark = 512;
  paused = false;
  readonly #now: () => number;
  readonly #waiting: { bytes: number; at: number }[] = [];
  #needsDrain = false;
  #onDrain: (() => void)[] = [];

  constructor(now: () => number) {
    this.#now = now;
  }

  get writableLength(): number {
    return this.#waiting.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get waitsSince(): number | undefined {
    return this.#waiting[0]?.at;
  }

  write({ length }: Uint8Array): boolean {
    if (!this.paused) return true;
    this.#waiting.push({ bytes: length, at: this.#now() });
    this.#needsDrain ||= this.writableLength >= this.writableHighWaterMark;
    return !this.#needsDrain;
  }

  cork(): void {}
  uncork(): void {}

  once(_event: "drain", listener: () => void): void {
    this.#onDrain.push(listener);
  }

  leave(most: number): void {
    let rest = most;
    for (const first of this.#waiting) {
      const gone = Math.min(first.bytes, rest);
      first.bytes -= gone;
      rest -= gone;
    }
    while (this.#waiting[0]?.bytes === 0) this.#waiting.shift();
    if (this.#waiting.length > 0 || !this.#needsDrain) return;
    this.#needsDrain = false;
    for (const listener of this.#onDrain.splice(0)) listener();
  }
}

/** A real outbox on a sink in memory: bounded, drained in portions, given up when nothing leaves for too long. */
export function sinkLine(egress: Egress, clock: Clock, giveUp: (code: number) => void): Line {
  const sink = new ModelSink(clock.now);
  const outbox: Outbox = egress.outbox(sink, { giveUp: ({ code }) => giveUp(code) });
  return {
    get writable() {
      return outbox.writable;
    },
    get paused() {
      return sink.paused;
    },
    get waitsSince() {
      return sink.waitsSince;
    },
    write: (parts) => outbox.write(parts),
    seated: (seat) => outbox.add(seat),
    pause() {
      sink.paused = true;
    },
    drain: (bytes) => sink.leave(bytes),
    resume() {
      sink.paused = false;
      sink.leave(Number.POSITIVE_INFINITY);
    },
    close: () => outbox.close(),
  };
}
