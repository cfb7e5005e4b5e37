import type { Bodies, JobBody } from "./bodies.js";
import { draining, WorkflowMonitorError } from "./errors.js";
import {
  type Codec,
  encode,
  encodeEnd,
  encodeError,
  encodeJob,
  encodeSnapshot,
  updateText,
} from "./frames.js";
import type { Logger } from "./host.js";
import type { Limits } from "./limits.js";
import { CloseCode } from "./protocol.js";
import { refusals } from "./refusals.js";
import { Replica, type ReplicaContext } from "./replica.js";
import type { Cursor, Revision } from "./revision.js";
import {
  Cohort,
  type EndReason,
  isPolling,
  type Member,
  Seat,
  type SeatOwner,
  type Service,
  type Viewer,
} from "./seat.js";
import type { JobState } from "./snapshot.js";
import { type Turns, WRITE_BYTES } from "./turns.js";

/** What rooms need of their node. */
export interface RoomContext extends ReplicaContext {
  logger: Logger;
  limits: Limits;
  bodies: Bodies;
  turns: Turns;
  lingerMs: number;
  stats: { delivered: number };
  onJoin(seat: Seat): void;
  onLeave(seat: Seat, reason: EndReason): void;
}

/** Above this, a flush in full mode becomes one snapshot frame, and a job is served at most 4 times a second. */
const BIG_BYTES = 64 * 1024;
const BIG_INTERVAL_MS = 250;

/** A cohort is sent to in one go, so it is small: after each one, the turn may be over. */
const COHORT_MEMBERS = 64;

/**
 * The members of one job on this node. A member is live (it stands at the head, and a flush is one
 * write to it) or parked (it keeps its cursor until `serve` brings it to the head with one snapshot
 * frame). Joining, resuming and catching up are the same: being served from where one stands.
 */
export class Room implements SeatOwner {
  readonly jobId: string;
  readonly #context: RoomContext;
  /** Called when it takes nobody any more, and when it is over. */
  readonly #onClose: () => void;
  readonly #replica: Replica;
  readonly #opened: Promise<void>;
  /** Rejects when the room closes: nobody waits on for a store that does not answer. */
  readonly #closing: Promise<never>;
  #giveUp = (_: WorkflowMonitorError) => {};
  #cohorts: Cohort[] = [];
  readonly #parked = new Set<Seat>();
  #live = 0;
  /** What is to be sent, as much of it in each turn as fits: to cohorts, then to parked members. */
  #due: Cohort[] = [];
  readonly #dueSeats = new Set<Seat>();
  /** The rest is sent in one of the next turns. */
  #waitsForTurn = false;
  #joining = 0;
  #closed = false;
  #cancelLinger: (() => void) | undefined;
  #cancelBig: (() => void) | undefined;
  /** The head that was served last instead of updates, and when. */
  #servedBig: Cursor | undefined;
  #servedBigAt = Number.NEGATIVE_INFINITY;
  /** The last frames made for this head: those who come back together get the same ones. */
  #lastSnapshot: { key: string; codec: Codec; parts: Buffer[]; bytes: number } | undefined;
  #lastEnd: { codec: Codec; bytes: Buffer } | undefined;
  #lastError: { codec: Codec; error: WorkflowMonitorError; bytes: Buffer } | undefined;

  constructor(jobId: string, context: RoomContext, onClose: () => void) {
    this.jobId = jobId;
    this.#context = context;
    this.#onClose = onClose;
    this.#replica = new Replica(jobId, context, {
      advanced: (revisions, jobs) => this.#guarded(() => this.#flush(revisions, jobs)),
      jumped: () => this.#guarded(() => this.#moveAll()),
      vanished: (error) => {
        this.endAll(error);
        this.close(error);
      },
    });
    const closing = new Promise<never>((_, reject) => {
      this.#giveUp = reject;
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

  get closed(): boolean {
    return this.#closed;
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
      const { turns } = this.#context;
      if (!turns.over) return this.#seat(member, viewer, after);
      return await new Promise((resolve) => {
        turns.next(() => resolve(this.#seat(member, viewer, after)));
      });
    } finally {
      this.#joining -= 1;
      this.#restIfEmpty();
    }
  }

  /** In one go: no revision comes between the head and the seat. */
  #seat(member: Member, viewer: Viewer, after: Cursor | null): Seat | undefined {
    if (this.#closed) return undefined;
    const seat = new Seat(this, member, viewer, after, this.#context.clock.monotonic());
    this.#parked.add(seat);
    this.#context.onJoin(seat);
    this.#guarded(() => this.#serve(seat));
    return seat;
  }

  /** The store is back. */
  reread(): Promise<void> {
    return this.#replica.reread();
  }

  /** The head as polls get it. Throws what `present` throws. */
  get body(): JobBody {
    return this.#context.bodies.of(this.#replica.job, this.#replica.cursor);
  }

  /** The same, for who stands at a cursor of this log or has none; undefined for others, or while it opens. */
  bodyAfter(cursor: Cursor | undefined): JobBody | undefined {
    if (!this.#replica.following || !this.#replica.job) return undefined;
    const behind = !cursor || this.#replica.missedBy(cursor) !== undefined;
    return behind ? this.body : undefined;
  }

  resume(seat: Seat): void {
    if (seat.left || seat.cohort) return;
    this.#dueSeats.add(seat);
    this.#guarded(() => this.#sendDue());
  }

  leave(seat: Seat, reason: EndReason): void {
    if (seat.left) return;
    if (seat.cohort) this.#park(seat);
    this.#parked.delete(seat);
    this.#dueSeats.delete(seat);
    seat.left = true;
    this.#context.onLeave(seat, reason);
    this.#restIfEmpty();
  }

  /** Tells every member why, and lets go of it. */
  endAll(error: WorkflowMonitorError): void {
    for (const seat of this.seats()) this.dismiss(seat, error);
  }

  /** @param error what those are told who are about to join */
  close(error = draining(this.jobId)): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelLinger?.();
    this.#cancelBig?.();
    this.#due = [];
    this.#dueSeats.clear();
    this.#giveUp(error);
    this.#replica.close();
    this.#onClose();
  }

  // ── the way to the members ─────────────────────────────────────────────────────────────────────

  /** A batch came: members who stand at the former head get it as updates, in one write each. */
  #flush(revisions: readonly Revision[], jobs: readonly JobState[]): void {
    this.#forgetFrames();
    const made: { codec: Codec; mode: Service; bytes: Buffer }[] = [];
    this.#cohorts = this.#cohorts.filter(({ live }) => live.length > 0);
    for (const cohort of this.#cohorts) {
      const { codec, mode } = cohort;
      if (!cohort.behind) this.#due.push(cohort);
      cohort.revisions += revisions.length;
      cohort.stale ||= isPolling(mode) || (mode === "full" && this.#tooBig(revisions.length));
      if (cohort.stale) continue;
      let same = made.find((one) => one.codec === codec && one.mode === mode);
      if (!same) {
        same = { codec, mode, bytes: this.#encodeUpdates(codec, mode, revisions, jobs) };
        made.push(same);
      }
      cohort.updates.push(same.bytes);
      cohort.bytes += same.bytes.length;
      // Of a cohort that waited for its turn: one snapshot is less than all that.
      cohort.stale = cohort.bytes > BIG_BYTES && cohort.updates.length > 1;
    }
    this.#sendDue();
  }

  #tooBig(revisions: number): boolean {
    return revisions * this.#headBytes > BIG_BYTES;
  }

  /** As it was when it was last encoded: a large job is not encoded to find out that it is large. */
  get #headBytes(): number {
    return this.#context.bodies.lastSize(this.jobId) ?? this.body.bytes.length;
  }

  #encodeUpdates(
    codec: Codec,
    mode: Service,
    revisions: readonly Revision[],
    jobs: readonly JobState[],
  ): Buffer {
    const { epoch, revision: head } = this.#replica.cursor;
    const last = revisions.length - 1;
    const texts = revisions.map(({ event, patch }, at) => {
      const cursor = { epoch, revision: head - last + at };
      if (mode === "delta") return updateText(this.jobId, cursor, event, patch);
      const job = jobs[at] as JobState;
      const body = at === last ? this.body.bytes : encodeJob(job, cursor, this.#context.frames);
      return updateText(this.jobId, cursor, event, body);
    });
    return encode(codec, "update", texts);
  }

  /** Begins now, unless that is under way already, or this turn is over. */
  #sendDue(): void {
    if (this.#waitsForTurn) return;
    const { turns } = this.#context;
    if (!turns.over && !turns.share(() => this.#sendNext())) return;
    this.#waitsForTurn = true;
    turns.next(() => {
      this.#waitsForTurn = false;
      this.#guarded(() => this.#sendDue());
    });
  }

  /** Sends to one cohort, or to one parked member. Returns whether there are more. */
  #sendNext(): boolean {
    const cohort = this.#due.shift();
    if (cohort) this.#catchUp(cohort);
    else {
      for (const seat of this.#dueSeats) {
        this.#dueSeats.delete(seat);
        this.#serve(seat);
        break;
      }
    }
    return this.#due.length > 0 || this.#dueSeats.size > 0;
  }

  #catchUp(cohort: Cohort): void {
    if (cohort.stale) this.#sendHead(cohort);
    else this.#sendUpdates(cohort);
    if (this.#replica.job.done) for (const seat of [...cohort.live]) this.#end(seat);
  }

  /** The hot loop: a look and a write for each viewer. Over a copy, since who leaves moves another. */
  #sendUpdates(cohort: Cohort): void {
    const { updates, bytes, revisions } = cohort;
    const { turns, stats } = this.#context;
    const isBig = bytes > BIG_BYTES;
    let sent = 0;
    const seats = cohort.live.slice();
    for (let at = 0; at < seats.length; at++) {
      const seat = seats[at] as Seat;
      if (seat.cohort !== cohort) continue;
      if (!seat.member.writable) this.#park(seat);
      else if (isBig && turns.over) this.#putOff(seat);
      else if (this.#write(seat, updates)) {
        sent += 1;
        if (isBig) turns.spend(bytes);
      }
    }
    turns.spend(sent * (isBig ? WRITE_BYTES : WRITE_BYTES + bytes));
    cohort.standAt(this.#replica.cursor);
    stats.delivered += sent * revisions;
  }

  /** Gets a snapshot in one of the next turns. */
  #putOff(seat: Seat): void {
    this.#park(seat);
    this.#dueSeats.add(seat);
  }

  /** Updates would be too large, or are not wanted: the head instead, at a bounded rate for a large job. */
  #sendHead(cohort: Cohort): void {
    const waiting = [...cohort.live];
    for (const seat of waiting) this.#park(seat);
    cohort.standAt(this.#replica.cursor);
    const wait = this.#servedBigAt + BIG_INTERVAL_MS - this.#context.clock.monotonic();
    // All cohorts get the same head at the same time.
    const begun = this.#servedBig === this.#replica.cursor;
    if (begun || wait <= 0 || this.#headBytes <= BIG_BYTES) {
      this.#beginBig();
      for (const seat of waiting) this.#dueSeats.add(seat);
    } else {
      this.#cancelBig ??= this.#context.clock.setTimeout(() => {
        this.#cancelBig = undefined;
        this.#beginBig();
        this.#guarded(() => this.#serveParked());
      }, wait);
    }
  }

  #beginBig(): void {
    this.#servedBig = this.#replica.cursor;
    this.#servedBigAt = this.#context.clock.monotonic();
  }

  /** The head jumped: nobody stands at it. */
  #moveAll(): void {
    this.#forgetFrames();
    for (const cohort of this.#cohorts) for (const seat of [...cohort.live]) this.#park(seat);
    this.#cohorts = [];
    this.#due = [];
    this.#serveParked();
  }

  #serveParked(): void {
    for (const seat of this.#parked) this.#dueSeats.add(seat);
    this.#sendDue();
  }

  /** The one way to a snapshot frame: brings a parked member to the head. */
  #serve(seat: Seat): void {
    const { member } = seat;
    if (seat.left || seat.cohort || this.#closed || !member.writable) return;
    const mode = this.#modeOf(member);
    if (this.#cancelBig && seat.served && mode !== "delta") return; // its turn comes
    const missed = this.#replica.missedBy(seat.cursor);
    if (!seat.served || missed !== 0) {
      const { parts, bytes } = this.#snapshotFrame(seat);
      this.#context.turns.spend(bytes + WRITE_BYTES);
      if (!this.#write(seat, parts)) return;
      if (seat.served && missed) {
        seat.delivered += missed;
        this.#context.stats.delivered += missed;
      }
      seat.served = true;
      seat.cursor = this.#replica.cursor;
      if (isPolling(mode)) return this.#end(seat);
    }
    seat.cursor = this.#replica.cursor;
    this.#parked.delete(seat);
    this.#cohortFor(member.codec, mode).enter(seat);
    this.#live += 1;
    if (this.#replica.job.done) this.#end(seat);
  }

  #snapshotFrame(seat: Seat): { parts: Buffer[]; bytes: number } {
    const { codec } = seat.member;
    const revision = seat.cursor?.epoch === this.#replica.cursor.epoch ? seat.cursor.revision : "";
    const behind = seat.served && !isPolling(seat.member.mode);
    const key = `${revision} ${behind}`;
    if (this.#lastSnapshot?.key === key && this.#lastSnapshot.codec === codec)
      return this.#lastSnapshot;
    const events = this.#replica.since(seat.cursor);
    const parts = encodeSnapshot(
      codec,
      {
        jobId: this.jobId,
        cursor: this.#replica.cursor,
        resumed: events !== undefined,
        behind,
        done: this.#replica.job.done,
        events: events ?? [],
        job: this.body.bytes,
      },
      this.#context.frames,
    );
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    this.#lastSnapshot = { key, codec, parts, bytes };
    return this.#lastSnapshot;
  }

  /** A member who has everything of a job that is over, or the answer to a poll. */
  #end(seat: Seat): void {
    const { codec } = seat.member;
    if (this.#lastEnd?.codec !== codec) {
      this.#lastEnd = { codec, bytes: encodeEnd(codec, this.#replica.job, this.#replica.cursor) };
    }
    this.#context.turns.spend(WRITE_BYTES);
    this.#dismiss(seat, this.#lastEnd.bytes, { code: CloseCode.done, reason: "done" });
  }

  /** Tells a member what is wrong, and lets go of it. */
  dismiss(seat: Seat, error: WorkflowMonitorError): void {
    const { codec } = seat.member;
    if (this.#lastError?.codec !== codec || this.#lastError.error !== error) {
      this.#lastError = { codec, error, bytes: encodeError(codec, error) };
    }
    const { close: code } = refusals[error.code];
    this.#dismiss(seat, this.#lastError.bytes, { code, reason: error.message, error });
  }

  #forgetFrames(): void {
    this.#lastSnapshot = undefined;
    this.#lastEnd = undefined;
  }

  #dismiss(seat: Seat, frame: Buffer, reason: EndReason): void {
    if (seat.left || (!isPolling(seat.member.mode) && !this.#write(seat, [frame]))) return;
    this.leave(seat, reason);
    seat.member.end(reason);
  }

  /** False: it left meanwhile. A member that throws in spite of its promise disturbs nobody: it goes. */
  #write(seat: Seat, parts: readonly Uint8Array[]): boolean {
    try {
      seat.member.write(parts);
      return !seat.left;
    } catch (thrown) {
      this.#context.logger.error({ jobId: this.jobId, err: thrown }, "a member threw");
      this.leave(seat, { code: CloseCode.internal, reason: "the connection failed" });
      return false;
    }
  }

  // ── housekeeping ───────────────────────────────────────────────────────────────────────────────

  /** Out of the live ones. */
  #park(seat: Seat): void {
    seat.cohort?.exit(seat);
    this.#live -= 1;
    this.#parked.add(seat);
  }

  /** What `present` makes of a job, nobody can patch. SPEC R16. */
  #modeOf({ mode }: Member): Service {
    return mode === "delta" && this.#context.frames.present ? "full" : mode;
  }

  /** One that stands at the head and has a place. */
  #cohortFor(codec: Codec, mode: Service): Cohort {
    const fits = (cohort: Cohort) =>
      cohort.codec === codec &&
      cohort.mode === mode &&
      cohort.live.length < COHORT_MEMBERS &&
      !cohort.behind;
    let cohort = this.#cohorts.findLast(fits);
    if (!cohort) {
      cohort = new Cohort(codec, mode, this.#replica.cursor);
      this.#cohorts.push(cohort);
    }
    return cohort;
  }

  /** Everybody in this room. */
  seats(): Seat[] {
    return [...this.#parked, ...this.#cohorts.flatMap(({ live }) => live)];
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
      this.#cohorts = [];
      this.#due = [];
      this.#dueSeats.clear();
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
