import type { Bodies } from "./bodies.js";
import { draining, unknownJob, WorkflowMonitorError } from "./errors.js";
import {
  type Codec,
  encode,
  encodeEnd,
  encodeError,
  encodeJob,
  encodeSnapshot,
  type FrameOptions,
  updateText,
} from "./frames.js";
import type { Limits } from "./limits.js";
import { CloseCode, type Mode, refusals, type Transport } from "./protocol.js";
import { Replica, type ReplicaContext } from "./replica.js";
import { type Cursor, ORIGIN, type Revision } from "./revision.js";
import type { JobState } from "./snapshot.js";

/** Why a viewer's watch is over, as its connection says it. */
export interface EndReason {
  /** One of `CloseCode`, or what the transport itself closed with. */
  code: number;
  /** At most 123 bytes: what fits into a close frame. */
  reason: string;
}

/** One viewer, as its adapter shows it to a room. Its methods never throw. */
export interface Member {
  readonly codec: Codec;
  readonly mode: Mode;
  /** Less than `limits.inFlightBytes` are on their way to it. When that becomes true again: `Seat.resume()`. */
  readonly writable: boolean;
  /** Sends these bytes, whatever their size: what was written counts as seen. */
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

/** What rooms need of their node. */
export interface RoomContext extends ReplicaContext {
  limits: Limits;
  frames: FrameOptions;
  bodies: Bodies;
  lingerMs: number;
  stats: { delivered: number };
  /** The rooms whose store connection is lost: what their members see may be old. */
  stale: Set<Room>;
  onJoin(seat: Seat): void;
  onLeave(seat: Seat, reason: EndReason): void;
}

/** Above this, a flush in full mode becomes one snapshot frame, and a job is served at most 4 times a second. */
const BIG_BYTES = 64 * 1024;
const BIG_INTERVAL_MS = 250;

/** Members that get the same bytes; those in it are live: they stand at the room's head. */
interface Group {
  codec: Codec;
  mode: Mode;
  live: Seat[];
}

/** A member's place in a room. */
export class Seat {
  readonly member: Member;
  readonly viewer: Viewer;
  readonly joinedAt: number;
  readonly #room: Room;
  /** What the viewer has seen; of a live seat: when it became live. */
  cursor: Cursor | null;
  /** Had its first frame. */
  served = false;
  left = false;
  /** Where it stands in its group; −1: parked. */
  at = -1;
  /** Revisions that reached the viewer after its first snapshot; of a live seat: until it became live. */
  delivered = 0;

  constructor(room: Room, member: Member, viewer: Viewer, cursor: Cursor | null, joinedAt: number) {
    this.#room = room;
    this.member = member;
    this.viewer = viewer;
    this.cursor = cursor;
    this.joinedAt = joinedAt;
  }

  get jobId(): string {
    return this.#room.jobId;
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
 * The members of one job on this node. A member is live (it stands at the head, and a flush is one
 * write to it) or parked (it keeps its cursor until `serve` brings it to the head with one snapshot
 * frame). Joining, resuming and catching up are the same: being served from where one stands.
 */
export class Room {
  readonly jobId: string;
  readonly #context: RoomContext;
  readonly #onClose: () => void;
  readonly #replica: Replica;
  readonly #opened: Promise<void>;
  /** Rejects when the room closes: nobody waits on for a store that does not answer. */
  readonly #closing: Promise<never>;
  #giveUp = () => {};
  readonly #groups: Group[] = [];
  readonly #parked = new Set<Seat>();
  #live = 0;
  /** Where live members stand: the replica's head, but during a flush the one before. */
  #head: Cursor = ORIGIN;
  #joining = 0;
  #closed = false;
  #cancelLinger: (() => void) | undefined;
  #cancelBig: (() => void) | undefined;
  #servedBigAt = Number.NEGATIVE_INFINITY;
  /** The last frames made for this head: those who come back together get the same ones. */
  #lastSnapshot: { key: string; codec: Codec; parts: Buffer[] } | undefined;
  #lastEnd: { codec: Codec; bytes: Buffer } | undefined;

  constructor(jobId: string, context: RoomContext, onClose: () => void) {
    this.jobId = jobId;
    this.#context = context;
    this.#onClose = onClose;
    this.#replica = new Replica(jobId, context, {
      advanced: (revisions, jobs) => this.#guarded(() => this.#flush(revisions, jobs)),
      jumped: () => this.#guarded(() => this.#moveAll()),
      vanished: () => {
        this.endAll(unknownJob(jobId));
        this.close();
      },
      connected: (connected) => {
        if (connected) context.stale.delete(this);
        else context.stale.add(this);
      },
    });
    const closing = new Promise<never>((_, reject) => {
      this.#giveUp = () => reject(draining(jobId));
    });
    closing.catch(() => {});
    this.#closing = closing;
    this.#opened = Promise.race([this.#replica.open(), closing]);
    this.#opened.then(
      // An answer that does not follow is for those who asked, not for those who come later.
      () => this.#replica.following || onClose(),
      () => this.close(),
    );
  }

  /** Members, and those about to be. */
  get size(): number {
    return this.#live + this.#parked.size + this.#joining;
  }

  get parked(): number {
    return this.#parked.size;
  }

  /**
   * Seats a member and serves it from `after`. Undefined: the room closed meanwhile, or its answer is
   * older than the question; open another.
   */
  async join(member: Member, viewer: Viewer, after: Cursor | null): Promise<Seat | undefined> {
    const { readsBegun } = this.#replica;
    this.#joining += 1;
    this.#cancelLinger?.();
    try {
      await this.#opened;
      if (!this.#replica.following && this.#replica.readsDone <= readsBegun) return undefined;
      if (after && this.#replica.missedBy(after) === undefined) {
        await Promise.race([this.#replica.catchUpTo(after, readsBegun), this.#closing]);
      }
      if (this.#closed) return undefined;
      // From here to the first frame nothing is awaited: no revision comes between head and seat.
      const seat = new Seat(this, member, viewer, after, this.#context.clock.now());
      this.#parked.add(seat);
      this.#context.onJoin(seat);
      this.resume(seat);
      return seat;
    } finally {
      this.#joining -= 1;
      this.#restIfEmpty();
    }
  }

  resume(seat: Seat): void {
    this.#guarded(() => this.#serve(seat));
  }

  leave(seat: Seat, reason: EndReason): void {
    if (seat.left) return;
    if (seat.at >= 0) this.#park(seat);
    this.#parked.delete(seat);
    seat.left = true;
    this.#context.onLeave(seat, reason);
    this.#restIfEmpty();
  }

  /** Tells every member why, and lets go of it. */
  endAll(error: WorkflowMonitorError): void {
    const { close } = refusals[error.code];
    const frames = new Map<Codec, Buffer>();
    for (const seat of this.#seats()) {
      const { codec } = seat.member;
      const frame = frames.get(codec) ?? encodeError(codec, error);
      frames.set(codec, frame);
      this.#dismiss(seat, frame, { code: close, reason: error.message });
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelLinger?.();
    this.#cancelBig?.();
    this.#context.stale.delete(this);
    this.#giveUp();
    this.#replica.close();
    this.#onClose();
  }

  // ── the way to the members ─────────────────────────────────────────────────────────────────────

  /** A batch came: members who stand at the former head get it as updates, in one write each. */
  #flush(revisions: readonly Revision[], jobs: readonly JobState[]): void {
    this.#forgetFrames();
    try {
      this.#sendAll(revisions, jobs);
    } finally {
      this.#head = this.#replica.cursor;
    }
    if (!this.#replica.job.done) return;
    for (const { live } of this.#groups) for (const seat of [...live]) this.#end(seat);
  }

  #sendAll(revisions: readonly Revision[], jobs: readonly JobState[]): void {
    for (const group of this.#groups) {
      if (group.live.length === 0) continue;
      if (group.mode === "full" && this.#tooBig(revisions.length)) this.#sendHead(group);
      else this.#sendUpdates(group, this.#encodeUpdates(group, revisions, jobs), revisions.length);
    }
  }

  #tooBig(revisions: number): boolean {
    return revisions * this.#body().length > BIG_BYTES;
  }

  #encodeUpdates(
    { codec, mode }: Group,
    revisions: readonly Revision[],
    jobs: readonly JobState[],
  ): Buffer {
    const { epoch, revision: head } = this.#replica.cursor;
    const last = revisions.length - 1;
    const texts = revisions.map(({ event, patch }, at) => {
      const cursor = { epoch, revision: head - last + at };
      if (mode === "delta") return updateText(this.jobId, cursor, event, patch);
      const job = jobs[at] as JobState;
      const body = at === last ? this.#body() : encodeJob(job, cursor, this.#context.frames);
      return updateText(this.jobId, cursor, event, body);
    });
    return encode(codec, "update", texts);
  }

  /** The hot loop: a look and a write for each viewer. Backwards, since parking fills the gap from the end. */
  #sendUpdates({ live }: Group, bytes: Buffer, revisions: number): void {
    const parts = [bytes];
    let sent = 0;
    for (let at = live.length - 1; at >= 0; at--) {
      const seat = live[at] as Seat;
      if (!seat.member.writable) this.#park(seat);
      else if (this.#send(seat, parts)) sent += 1;
    }
    this.#context.stats.delivered += sent * revisions;
  }

  /** Full-mode updates would be too large: the head instead, at a bounded rate for a large job. */
  #sendHead(group: Group): void {
    const waiting = [...group.live];
    for (const seat of waiting) this.#park(seat);
    const now = this.#context.clock.now();
    const wait = this.#servedBigAt + BIG_INTERVAL_MS - now;
    if (this.#body().length <= BIG_BYTES || wait <= 0) {
      this.#servedBigAt = now;
      for (const seat of waiting) this.#serve(seat);
    } else {
      this.#cancelBig ??= this.#context.clock.setTimeout(() => {
        this.#cancelBig = undefined;
        this.#servedBigAt = this.#context.clock.now();
        this.#guarded(() => this.#serveParked());
      }, wait);
    }
  }

  /** The head jumped: nobody stands at it. */
  #moveAll(): void {
    this.#forgetFrames();
    for (const { live } of this.#groups) for (const seat of [...live]) this.#park(seat);
    this.#head = this.#replica.cursor;
    this.#serveParked();
  }

  #serveParked(): void {
    for (const seat of [...this.#parked]) this.#serve(seat);
  }

  /** The one way to a snapshot frame: brings a parked member to the head. */
  #serve(seat: Seat): void {
    const { member } = seat;
    if (seat.left || seat.at >= 0 || this.#closed || !member.writable) return;
    if (this.#cancelBig && seat.served && this.#groupOf(member).mode === "full") return; // its turn comes
    const missed = this.#replica.missedBy(seat.cursor);
    if (!seat.served || missed !== 0) {
      if (!this.#send(seat, this.#snapshotFrame(seat))) return;
      if (seat.served && missed) {
        seat.delivered += missed;
        this.#context.stats.delivered += missed;
      }
      seat.served = true;
    }
    seat.cursor = this.#replica.cursor;
    this.#parked.delete(seat);
    const { live } = this.#groupOf(member);
    seat.at = live.push(seat) - 1;
    this.#live += 1;
    if (this.#replica.job.done) this.#end(seat);
  }

  #snapshotFrame(seat: Seat): Buffer[] {
    const { codec } = seat.member;
    const revision = seat.cursor?.epoch === this.#replica.cursor.epoch ? seat.cursor.revision : "";
    const key = `${revision} ${seat.served}`;
    if (this.#lastSnapshot?.key === key && this.#lastSnapshot.codec === codec)
      return this.#lastSnapshot.parts;
    const events = this.#replica.since(seat.cursor);
    const parts = encodeSnapshot(
      codec,
      {
        jobId: this.jobId,
        cursor: this.#replica.cursor,
        resumed: events !== undefined,
        behind: seat.served,
        done: this.#replica.job.done,
        events: events ?? [],
        job: this.#body(),
      },
      this.#context.frames,
    );
    this.#lastSnapshot = { key, codec, parts };
    return parts;
  }

  /** A live member of a job that is over has everything. */
  #end(seat: Seat): void {
    const { codec } = seat.member;
    if (this.#lastEnd?.codec !== codec) {
      this.#lastEnd = { codec, bytes: encodeEnd(codec, this.#replica.job, this.#replica.cursor) };
    }
    this.#dismiss(seat, this.#lastEnd.bytes, { code: CloseCode.done, reason: "done" });
  }

  #forgetFrames(): void {
    this.#lastSnapshot = undefined;
    this.#lastEnd = undefined;
  }

  #dismiss(seat: Seat, frame: Buffer, reason: EndReason): void {
    if (!this.#send(seat, [frame])) return;
    this.leave(seat, reason);
    seat.member.end(reason);
  }

  /** A member that throws in spite of its promise disturbs nobody: it goes. */
  #send(seat: Seat, parts: readonly Uint8Array[]): boolean {
    try {
      seat.member.write(parts);
      return true;
    } catch (thrown) {
      this.#context.logger.error({ jobId: this.jobId, err: thrown }, "a member threw");
      this.leave(seat, { code: CloseCode.internal, reason: "the connection failed" });
      return false;
    }
  }

  // ── housekeeping ───────────────────────────────────────────────────────────────────────────────

  /** Out of the live ones; its cursor is where they stand. */
  #park(seat: Seat): void {
    const { live } = this.#groupOf(seat.member);
    const last = live.pop() as Seat;
    if (last !== seat) {
      live[seat.at] = last;
      last.at = seat.at;
    }
    seat.at = -1;
    this.#live -= 1;
    this.#parked.add(seat);
    seat.delivered += Math.max(0, this.#head.revision - (seat.cursor ?? this.#head).revision);
    seat.cursor = this.#head;
  }

  #groupOf({ codec, mode }: Member): Group {
    // What `present` makes of a job, nobody can patch. SPEC R16.
    const served = this.#context.frames.present ? "full" : mode;
    let group = this.#groups.find((group) => group.codec === codec && group.mode === served);
    if (!group) {
      group = { codec, mode: served, live: [] };
      this.#groups.push(group);
    }
    return group;
  }

  #body(): Buffer {
    return this.#context.bodies.of(this.#replica.job, this.#replica.cursor).bytes;
  }

  #seats(): Seat[] {
    return [...this.#parked, ...this.#groups.flatMap(({ live }) => live)];
  }

  /** `present` is the host's and may throw: then nobody can be told anything of this job. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (thrown) {
      this.#context.logger.error({ jobId: this.jobId, err: thrown }, "the job cannot be shown");
      this.endAll(
        new WorkflowMonitorError("internal", "The job cannot be shown.", { jobId: this.jobId }),
      );
    }
  }

  #restIfEmpty(): void {
    if (this.size > 0 || this.#closed) return;
    this.#cancelLinger?.();
    // What does not follow gets old: only a replica may wait for the next viewer.
    if (!this.#replica.following) this.close();
    else
      this.#cancelLinger = this.#context.clock.setTimeout(
        () => this.close(),
        this.#context.lingerMs,
      );
  }
}
