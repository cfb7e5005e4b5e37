import type { JobBody } from "./bodies.js";
import { draining, toMonitorError, unknownJob, WorkflowMonitorError } from "./errors.js";
import { eachOf } from "./host.js";
import { isJobId } from "./normalise.js";
import type { Transport } from "./protocol.js";
import type { Cursor } from "./revision.js";
import { Room, type RoomContext } from "./room.js";
import { type EndReason, isPolling, type Member, type Seat, type Viewer } from "./seat.js";

/** What the host may hear of joins and leaves. */
export interface ViewerEvent {
  jobId: string;
  viewer: string;
  transport: Transport;
}

export interface LeaveEvent extends ViewerEvent, EndReason {
  durationMs: number;
  /** Revisions that reached the viewer after its first snapshot. */
  delivered: number;
}

export interface RoomsOptions extends Omit<RoomContext, "onJoin" | "onLeave"> {
  onJoin(event: ViewerEvent): void;
  onLeave(event: LeaveEvent): void;
}

/** So many viewers at a time are no herd. */
const DRAIN = { everyMs: 50, least: 50 };

/** The store is not to be asked by all rooms at once. */
const REREAD_AT_ONCE = 64;

/** The rooms of this node: one for each job that somebody watches, or watched a moment ago. */
export class RoomManager {
  readonly #options: RoomsOptions;
  readonly #context: RoomContext;
  readonly #rooms = new Map<string, Room>();
  /** Those that take nobody any more, but have members who could not take their answer yet. */
  readonly #answering = new Set<Room>();
  readonly #viewers: Record<Transport, number> = {
    ws: 0,
    sse: 0,
    poll: 0,
    "long-poll": 0,
    watch: 0,
  };
  readonly #perAddress = new Map<string, number>();
  #lastViewer = 0;
  #stale = false;
  #draining = false;

  constructor(options: RoomsOptions) {
    this.#options = options;
    this.#context = {
      ...options,
      onJoin: (seat) => {
        if (!isPolling(seat.member.mode)) options.onJoin(viewerEvent(seat));
      },
      onLeave: (seat, reason) => this.#left(seat, reason),
    };
  }

  get stats() {
    const all = this.#all();
    const parked = all.reduce((sum, room) => sum + room.parked, 0);
    return { rooms: all.length, parked, viewers: { ...this.#viewers } };
  }

  /** The store is away: what viewers see may be old. */
  get stale(): boolean {
    return this.#stale;
  }

  /** The head that a room of this node shows; undefined: there is none, or the cursor is not of its past. */
  body(jobId: string, after: Cursor | undefined): JobBody | undefined {
    return this.#rooms.get(jobId)?.bodyAfter(after);
  }

  /**
   * Hears from the store whether it is there. Back again, it may have announced what nobody heard:
   * then the rooms read, and this returns true.
   */
  connected(there: boolean): boolean {
    const back = there && this.#stale;
    this.#stale = !there;
    if (back) void eachOf([...this.#rooms.values()], REREAD_AT_ONCE, (room) => room.reread());
    return back;
  }

  /**
   * Seats a member in its job's room and sends it its first frame. Rejects with a
   * WorkflowMonitorError: `unknown_job`, `too_many_viewers`, `unavailable`, `draining`.
   */
  async join(
    jobId: string,
    member: Member,
    after: Cursor | null,
    transport: Transport,
    from: { readonly remoteAddress: string | undefined } = { remoteAddress: undefined },
  ): Promise<Seat> {
    if (this.#draining) throw draining(jobId);
    if (!isJobId(jobId)) throw unknownJob(jobId);
    // Looked at, and kept, only for the limit's sake.
    const limited = this.#options.limits.viewersPerAddress !== Number.POSITIVE_INFINITY;
    const remoteAddress = limited ? from.remoteAddress : undefined;
    this.#checkLimits(jobId, remoteAddress);
    this.#lastViewer += 1;
    const viewer = { id: this.#lastViewer, transport, remoteAddress };
    this.#count(viewer, 1);
    try {
      return await this.#seat(jobId, member, viewer, after);
    } catch (thrown) {
      this.#count(viewer, -1);
      throw toMonitorError(thrown, "unavailable", "The store does not answer: try again.");
    }
  }

  async #seat(jobId: string, member: Member, viewer: Viewer, after: Cursor | null): Promise<Seat> {
    // A room that is opening may have asked the store before this viewer asked us: its "unknown" is
    // not an answer for him, the next room's is.
    let opening = this.#rooms.get(jobId);
    for (;;) {
      const room = this.#room(jobId);
      try {
        const seat = await room.join(member, viewer, after);
        // Its turn may have come after the others were told.
        if (seat && this.#draining) room.dismiss(seat, draining(jobId));
        if (seat) return seat;
      } catch (thrown) {
        if (room !== opening || (thrown as WorkflowMonitorError).code !== "unknown_job")
          throw thrown;
      }
      if (this.#draining) throw draining(jobId);
      opening = undefined;
    }
  }

  /**
   * Sends every viewer away, to come back elsewhere, and refuses new ones from now on. Who waits for
   * a poll is answered at once; the others are told in portions over `spreadMs`, so that they do not
   * all arrive at the next node in the same moment. Resolves when everybody has been told.
   */
  async drain(spreadMs: number): Promise<void> {
    this.#draining = true;
    const { clock } = this.#options;
    const all = this.#all().flatMap((room) => {
      const error = draining(room.jobId);
      return room.seats().map((seat) => ({ seat, dismiss: () => room.dismiss(seat, error) }));
    });
    const polling = all.filter(({ seat }) => isPolling(seat.member.mode));
    for (const { dismiss } of polling) dismiss();
    const others = all.filter(({ seat }) => !isPolling(seat.member.mode));
    const began = clock.monotonic();
    for (let told = 0; told < others.length; ) {
      if (told > 0) await new Promise<void>((go) => clock.setTimeout(go, DRAIN.everyMs));
      // By the clock: a timer that comes late has more to do.
      const share = (clock.monotonic() - began + DRAIN.everyMs) / spreadMs;
      const upTo = Math.max(told + DRAIN.least, Math.ceil(others.length * share));
      for (const { dismiss } of others.slice(told, upTo)) dismiss();
      told = upTo;
    }
    for (const room of this.#all()) {
      room.endAll(draining(room.jobId));
      room.close();
    }
  }

  #all(): Room[] {
    return [...this.#rooms.values(), ...this.#answering];
  }

  #room(jobId: string): Room {
    let room = this.#rooms.get(jobId);
    if (!room) {
      const opened = new Room(jobId, this.#context, () => {
        // A late close of an old room leaves its successor alone.
        if (this.#rooms.get(jobId) === opened) this.#rooms.delete(jobId);
        if (opened.closed) this.#answering.delete(opened);
        else this.#answering.add(opened);
      });
      room = opened;
      this.#rooms.set(jobId, room);
    }
    return room;
  }

  #checkLimits(jobId: string, remoteAddress: string | undefined): void {
    const { viewersPerJob, viewersPerAddress } = this.#options.limits;
    const ofJob = this.#rooms.get(jobId)?.size ?? 0;
    const ofAddress = remoteAddress === undefined ? 0 : (this.#perAddress.get(remoteAddress) ?? 0);
    if (ofJob < viewersPerJob && ofAddress < viewersPerAddress) return;
    throw new WorkflowMonitorError("too_many_viewers", "Too many viewers: come back later.", {
      jobId,
      retryAfterMs: 10_000,
    });
  }

  #count({ transport, remoteAddress }: Viewer, change: 1 | -1): void {
    this.#viewers[transport] += change;
    if (remoteAddress === undefined) return;
    const count = (this.#perAddress.get(remoteAddress) ?? 0) + change;
    if (count > 0) this.#perAddress.set(remoteAddress, count);
    else this.#perAddress.delete(remoteAddress);
  }

  #left(seat: Seat, { code, reason }: EndReason): void {
    const { joinedAt, delivered } = seat;
    this.#count(seat, -1);
    if (isPolling(seat.member.mode)) return; // it was answered, as any request is
    const durationMs = this.#options.clock.monotonic() - joinedAt;
    const event = { ...viewerEvent(seat), code, reason, durationMs, delivered };
    this.#options.logger.info(event, "viewer disconnected");
    this.#options.onLeave(event);
  }
}

const viewerEvent = ({ jobId, id, transport }: Seat): ViewerEvent => ({
  jobId,
  viewer: `v${id.toString(36)}`,
  transport,
});
