import type { Clock } from "./host.js";
import { CloseCode } from "./protocol.js";
import type { EndReason, Seat } from "./seat.js";

/** Where the bytes of a connection leave: a `net.Socket`, or an `http.ServerResponse`. */
export interface Sink {
  readonly writableLength: number;
  readonly writableHighWaterMark: number;
  /** False: it will say `drain`. */
  write(bytes: Uint8Array): boolean;
  cork(): void;
  uncork(): void;
  once(event: "drain", listener: () => void): unknown;
}

/** An `http.ServerResponse`. */
export interface Answering {
  readonly destroyed: boolean;
  readonly writableLength: number;
  once(event: "close", listener: () => void): unknown;
  destroy(): unknown;
}

/** A connection with frames that have not left: it is given up when they do not leave in time. */
interface Flight {
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
      this.#options.clock.now() + this.#options.stallTimeoutMs + bytes / LEAST_BYTES_PER_MS;
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
    const due = clock.now() + SWEEP_MS;
    return clock.setTimeout(() => {
      const now = clock.now();
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

/** What an outbox has to do with its connection. */
export interface OutboxOwner {
  /** Its frames do not leave: end it without waiting for them, and call `close`. */
  giveUp(reason: EndReason): void;
}

/**
 * The way out of one connection: writes frames, knows when it is full, and serves its members in turn
 * as it drains, so that a busy job does not starve the others on the same connection.
 */
export class Outbox {
  readonly #sink: Sink;
  readonly #owner: OutboxOwner;
  readonly #inFlight: InFlight;
  /** The seats in the order in which they are served, linked: most connections have one, and an array costs more. */
  #first: Seat | undefined;
  #draining = false;
  /** There only while something is in flight. */
  #flight: OutboxFlight | undefined;

  constructor(inFlight: InFlight, sink: Sink, owner: OutboxOwner) {
    this.#inFlight = inFlight;
    this.#sink = sink;
    this.#owner = owner;
  }

  get writable(): boolean {
    const { writableLength, writableHighWaterMark } = this.#sink;
    // Below its own mark a sink never says that it has drained.
    if (writableLength < Math.max(this.#inFlight.inFlightBytes, writableHighWaterMark)) return true;
    this.#awaitDrain(); // others may have filled it: a WebSocket's own frames
    return false;
  }

  get seats(): Seat[] {
    const seats: Seat[] = [];
    for (let seat = this.#first; seat; seat = seat.next) seats.push(seat);
    return seats;
  }

  /** From now on this seat is served as the connection drains. */
  add(seat: Seat): void {
    const last = this.seats.at(-1);
    if (last) last.next = seat;
    else this.#first = seat;
    if (this.writable) seat.resume(); // it may have drained while the seat was being taken
  }

  remove(seat: Seat): void {
    const before = this.seats.find(({ next }) => next === seat);
    if (before) before.next = seat.next;
    else if (this.#first === seat) this.#first = seat.next;
    seat.next = undefined;
  }

  write(parts: readonly Uint8Array[]): void {
    const sink = this.#sink;
    let taken = true;
    if (parts.length === 1) taken = sink.write(parts[0] as Uint8Array);
    else {
      sink.cork();
      for (const part of parts) taken = sink.write(part);
      sink.uncork();
    }
    // Most of the time the kernel takes all of it at once.
    if (sink.writableLength > 0) {
      this.#flight ??= new OutboxFlight(this.#inFlight, sink, this.#owner);
      this.#flight.add(parts);
    } else if (this.#flight) this.#land();
    if (!taken) this.#awaitDrain();
  }

  /** The connection is gone, and all that was in flight with it. */
  close(): void {
    this.#land();
    this.#first = undefined;
  }

  #land(): void {
    this.#flight?.land();
    this.#flight = undefined;
  }

  #awaitDrain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#sink.once("drain", () => this.#drained());
  }

  #drained(): void {
    this.#draining = false;
    this.#land();
    for (const seat of this.seats) {
      if (!this.writable) return;
      // Served: the others come first the next time.
      if (this.#first?.next) {
        this.remove(seat);
        this.add(seat);
      } else seat.resume();
    }
  }
}

/** The frames of an outbox that have not left. */
class OutboxFlight implements Flight {
  deadline = 0;
  readonly #inFlight: InFlight;
  readonly #sink: Sink;
  readonly #owner: OutboxOwner;
  readonly #frames: { parts: readonly Uint8Array[]; end: number }[] = [];
  /** Bytes given to the sink since the flight began. */
  #given = 0;
  /** When so many of them have left, the deadline was met. */
  #mark = 0;

  constructor(inFlight: InFlight, sink: Sink, owner: OutboxOwner) {
    this.#inFlight = inFlight;
    this.#sink = sink;
    this.#owner = owner;
  }

  add(parts: readonly Uint8Array[]): void {
    for (const part of parts) this.#given += part.length;
    this.#frames.push({ parts, end: this.#given });
    this.#inFlight.hold(parts);
    if (this.#mark === 0) this.#setMark();
  }

  check(): void {
    const left = this.#given - this.#sink.writableLength;
    const gone = this.#frames.findIndex(({ end }) => end > left);
    const landed = this.#frames.splice(0, gone === -1 ? this.#frames.length : gone);
    for (const { parts } of landed) this.#inFlight.release(parts);
    if (this.#frames.length === 0) this.land();
    else if (left >= this.#mark) this.#setMark();
  }

  land(): void {
    for (const { parts } of this.#frames) this.#inFlight.release(parts);
    this.#frames.length = 0;
    this.#given = 0;
    this.#mark = 0;
    this.#inFlight.end(this);
  }

  giveUp(reason: EndReason): void {
    this.#owner.giveUp(reason);
  }

  #setMark(): void {
    this.#mark = this.#given;
    this.#inFlight.begin(this, this.#sink.writableLength);
  }
}
