import type { Flight, InFlight } from "./in-flight.js";
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
  readonly #most: number;
  /** The seats in the order in which they are served, linked: most connections have one, and an array costs more. */
  #first: Seat | undefined;
  #draining = false;
  /** There only while something is in flight. */
  #flight: OutboxFlight | undefined;

  constructor(inFlight: InFlight, sink: Sink, owner: OutboxOwner) {
    this.#inFlight = inFlight;
    this.#sink = sink;
    this.#owner = owner;
    // Below its own mark a sink never says that it has drained.
    this.#most = Math.max(inFlight.inFlightBytes, sink.writableHighWaterMark);
  }

  get writable(): boolean {
    if (this.#sink.writableLength < this.#most) return true;
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
