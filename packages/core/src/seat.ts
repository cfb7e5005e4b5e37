import type { JobBody } from "./bodies.js";
import type { WorkflowMonitorError } from "./errors.js";
import type { Codec } from "./frames.js";
import type { Mode, Transport } from "./protocol.js";
import type { Cursor } from "./revision.js";

/** Why a viewer's watch is over, as its connection says it. */
export interface EndReason {
  /** One of `CloseCode`, or what the transport itself closed with. */
  code: number;
  /** At most 123 bytes: what fits into a close frame. */
  reason: string;
  /** What is wrong, when something is: it was told in an `error` frame to members that get updates. */
  error?: WorkflowMonitorError;
}

/**
 * What a member gets. `full` and `delta`: a snapshot frame at once, then every update, `end` or `error`.
 * `poll`: one snapshot frame at once. `long-poll`: one snapshot frame as soon as there is something
 * after its cursor. The last two get nothing else, and are told of an error in `end` alone.
 */
export type Service = Mode | "poll" | "long-poll";

export const isPolling = (mode: Service): boolean => mode === "poll" || mode === "long-poll";

/** One viewer, as its adapter shows it to a room. Its methods never throw. */
export interface Member {
  readonly codec: Codec;
  readonly mode: Service;
  /** Less than `limits.inFlightBytes` are on their way to it. When that becomes true again: `Seat.resume()`. */
  readonly writable: boolean;
  /** Sends these bytes, whatever their size: what was written counts as seen. The parts are shared, and stay as they are. */
  write(parts: readonly Uint8Array[]): void;
  /** The watch is over, and left already: close the connection, unless it serves others too. */
  end(reason: EndReason): void;
}

/** Whom a seat is for: what the log and the counters know of a viewer. */
export interface Viewer {
  /** Unique on this node. */
  readonly id: number;
  readonly transport: Transport;
  /** Known only when `limits.viewersPerAddress` needs it. */
  readonly remoteAddress: string | undefined;
}

/** The room of a seat. */
export interface SeatOwner {
  readonly jobId: string;
  readonly body: JobBody;
  resume(seat: Seat): void;
  leave(seat: Seat, reason: EndReason): void;
}

/** A member's place in a room. */
export class Seat implements Viewer {
  readonly member: Member;
  readonly id: number;
  readonly transport: Transport;
  readonly remoteAddress: string | undefined;
  readonly joinedAt: number;
  readonly #room: SeatOwner;
  /** What the viewer has seen; of a live seat: when it became live. */
  cursor: Cursor | null;
  /** Had its first frame, now or in the request before. */
  served: boolean;
  left = false;
  /** Where it is live; undefined: it is parked. */
  cohort: Cohort | undefined;
  at = 0;
  /** The one after it on the same connection. */
  next: Seat | undefined;
  /** Revisions that reached the viewer after its first snapshot; of a live seat: until it became live. */
  delivered = 0;

  constructor(
    room: SeatOwner,
    member: Member,
    viewer: Viewer,
    cursor: Cursor | null,
    joinedAt: number,
  ) {
    this.#room = room;
    this.member = member;
    // Copied: one object less for each viewer.
    this.id = viewer.id;
    this.transport = viewer.transport;
    this.remoteAddress = viewer.remoteAddress;
    this.cursor = cursor;
    this.joinedAt = joinedAt;
    this.served = member.mode === "long-poll";
  }

  get jobId(): string {
    return this.#room.jobId;
  }

  /** The job's head as this room knows it, as polls get it. Throws what `present` throws. */
  get body(): JobBody {
    return this.#room.body;
  }

  /** The viewer can take bytes again. */
  resume(): void {
    this.#room.resume(this);
  }

  /** The viewer is gone. Does nothing the second time. */
  leave(reason: EndReason): void {
    this.#room.leave(this, reason);
  }
}

/**
 * Live members that get the same bytes in the same turn. A room has one for each codec and mode, or
 * several when it is large: each turn of the event loop serves but some of them.
 */
export class Cohort {
  readonly codec: Codec;
  readonly mode: Service;
  /** Where its members stand. */
  head: Cursor;
  readonly live: Seat[] = [];
  /** Updates that its members have not been sent yet, their size, and how many revisions they are. */
  updates: Uint8Array[] = [];
  bytes = 0;
  revisions = 0;
  /** A snapshot is to be sent instead of updates. */
  stale = false;

  constructor(codec: Codec, mode: Service, head: Cursor) {
    this.codec = codec;
    this.mode = mode;
    this.head = head;
  }

  get behind(): boolean {
    return this.stale || this.revisions > 0;
  }

  /** Nothing is pending any more: it was sent, or a snapshot will say it. */
  standAt(head: Cursor): void {
    this.head = head;
    this.updates = [];
    this.bytes = 0;
    this.revisions = 0;
    this.stale = false;
  }

  /** A seat that stands at this cohort's head becomes live. */
  enter(seat: Seat): void {
    seat.cohort = this;
    seat.at = this.live.push(seat) - 1;
  }

  /** A seat is live no more; its cursor is where the others stand. The last one takes its place. */
  exit(seat: Seat): void {
    const last = this.live.pop() as Seat;
    if (last !== seat) {
      this.live[seat.at] = last;
      last.at = seat.at;
    }
    seat.cohort = undefined;
    seat.delivered += Math.max(0, this.head.revision - (seat.cursor ?? this.head).revision);
    seat.cursor = this.head;
  }
}
