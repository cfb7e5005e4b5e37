import type { Clock } from "./host.js";
import { CloseCode } from "./protocol.js";
import type { EndReason } from "./seat.js";

/** An `http.ServerResponse`. */
export interface Answering {
  readonly destroyed: boolean;
  readonly writableLength: number;
  once(event: "close", listener: () => void): unknown;
  destroy(): unknown;
}

/** A connection with frames that have not left: it is given up when they do not leave in time. */
export interface Flight {
  /** By when the frame that is on its way must have left. */
  deadline: number;
  /** Looks at what has left. */
  check(): void;
  /** Its frames hold too much, or too long: the connection has to go. */
  giveUp(reason: EndReason): void;
}

export interface InFlightOptions {
  clock: Clock;
  stallTimeoutMs: number;
  /** Of one connection, and what all of them may hold. */
  limits: { inFlightBytes: number; pinnedBytes: number };
}

const SWEEP_MS = 1_000;
/** What allocators take besides: measured, docs/benchmarks.md. The limit is on memory, not on what we count. */
const OVERHEAD = 1 / 8;
/** Slower than this, a line is no line: it bounds how long a large frame may take. SPEC D3, D8. */
export const LEAST_BYTES_PER_MS = 16.384; // 16 KiB/s
const STALLED: EndReason = { code: CloseCode.fellBehind, reason: "stalled" };
const TOO_FAR_BEHIND: EndReason = { code: CloseCode.fellBehind, reason: "too far behind" };

/**
 * What is on its way to the viewers of this node: which connections have something in flight, and how
 * much memory that holds. Frames share their parts, so a part counts once, however many wait for it.
 */
export class InFlight {
  readonly inFlightBytes: number;
  readonly #options: InFlightOptions;
  readonly #mostBytes: number;
  /** In the order in which they began to wait. */
  readonly #flights = new Set<Flight>();
  readonly #holders = new Map<ArrayBufferLike, number>();
  #bytes = 0;
  #cancelSweep: (() => void) | undefined;
  #relieving = false;

  constructor(options: InFlightOptions) {
    this.#options = options;
    this.inFlightBytes = options.limits.inFlightBytes;
    this.#mostBytes = options.limits.pinnedBytes * (1 - OVERHEAD);
  }

  /** Memory that frames in flight hold, in bytes. */
  get pinnedBytes(): number {
    return this.#bytes;
  }

  /** Connections with something in flight. */
  get connections(): number {
    return this.#flights.size;
  }

  /** So many bytes have begun to leave; `flight` goes to the end of the queue. */
  begin(flight: Flight, bytes: number): void {
    flight.deadline =
      this.#options.clock.monotonic() + this.#options.stallTimeoutMs + bytes / LEAST_BYTES_PER_MS;
    this.#flights.delete(flight);
    this.#flights.add(flight);
    this.#cancelSweep ??= this.#schedule();
  }

  end(flight: Flight): void {
    this.#flights.delete(flight);
    if (this.#flights.size > 0) return;
    this.#cancelSweep?.();
    this.#cancelSweep = undefined;
  }

  hold(parts: readonly Uint8Array[]): void {
    for (const { buffer } of parts) {
      const holders = this.#holders.get(buffer) ?? 0;
      this.#holders.set(buffer, holders + 1);
      if (holders === 0) this.#bytes += buffer.byteLength;
    }
    if (this.#bytes <= this.#mostBytes || this.#relieving) return;
    // Not now: a room may be in the middle of its members.
    this.#relieving = true;
    queueMicrotask(() => this.#relieve());
  }

  release(parts: readonly Uint8Array[]): void {
    for (const { buffer } of parts) {
      const holders = (this.#holders.get(buffer) ?? 0) - 1;
      if (holders > 0) this.#holders.set(buffer, holders);
      else if (this.#holders.delete(buffer)) this.#bytes -= buffer.byteLength;
    }
  }

  /** An answer that somebody else writes: it is in flight until its response is closed. */
  follow(response: Answering, bytes: Uint8Array): void {
    if (response.destroyed) return; // its `close` is over
    const parts = [bytes];
    let landed = false;
    const land = () => {
      if (landed) return;
      landed = true;
      this.release(parts);
      this.end(flight);
    };
    const flight: Flight = {
      deadline: 0,
      check() {},
      giveUp() {
        land();
        response.destroy();
      },
    };
    response.once("close", land);
    this.hold(parts);
    this.begin(flight, bytes.length);
  }

  /** Who has waited longest is furthest behind. */
  #relieve(): void {
    this.#relieving = false;
    for (const flight of this.#flights) flight.check();
    for (const flight of this.#flights) {
      if (this.#bytes <= this.#mostBytes) return;
      flight.giveUp(TOO_FAR_BEHIND);
    }
  }

  #schedule(): () => void {
    const { clock } = this.#options;
    const due = clock.monotonic() + SWEEP_MS;
    return clock.setTimeout(() => {
      const now = clock.monotonic();
      // While our own event loop stood still, nothing could leave.
      const late = now - due > SWEEP_MS ? now - due : 0;
      this.#cancelSweep = this.#schedule();
      for (const flight of [...this.#flights]) {
        flight.deadline += late;
        flight.check();
        if (this.#flights.has(flight) && flight.deadline <= now) flight.giveUp(STALLED);
      }
    }, SWEEP_MS);
  }
}
