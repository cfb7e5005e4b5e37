import { unknownJob, WorkflowMonitorError } from "./errors.js";
import { encodeEvent, type FrameOptions } from "./frames.js";
import { History } from "./history.js";
import type { Clock } from "./host.js";
import { applyPatch, type Cursor, ORIGIN, type Revision } from "./revision.js";
import type { JobState } from "./snapshot.js";
import type { Announced, JobRecord, JobStore } from "./store.js";
import type { StoreFaults } from "./store-faults.js";

export interface ReplicaContext {
  store: JobStore;
  clock: Clock;
  faults: StoreFaults;
  limits: { historyBytes: number };
  frames: FrameOptions;
  stallTimeoutMs: number;
}

/** What a replica tells its room, in the turn in which it happens. */
export interface ReplicaListener {
  /**
   * A batch followed the former head; `jobs[i]` is the state after `revisions[i]`. The events are
   * those that viewers may see.
   */
  advanced(revisions: readonly Revision[], jobs: readonly JobState[]): void;
  /** The head moved in another way: who stood at the former one has to be brought to this. */
  jumped(): void;
  /** For a minute the store has not had the job, or could not read it. `error` says which. */
  vanished(error: WorkflowMonitorError): void;
}

type TimerName = "check" | "again" | "hint" | "vanish" | "refresh";

const MAX_NOTES = 1_000;
const READ_AGAIN_MS = 1_000;
const VANISHED_MS = 60_000;
const CHECK_MS = { least: 25_000, spread: 15_000 };

/**
 * One job's log on this node: its head and its last events, as viewers may see them. It follows the store, and repairs by
 * reading whatever the announcements lost, repeated or reordered. It applies patches; only ingest
 * reduces.
 */
export class Replica {
  readonly #jobId: string;
  readonly #context: ReplicaContext;
  readonly #listener: ReplicaListener;
  readonly #history = new History();
  #cursor: Cursor = ORIGIN;
  #job: JobState | undefined;
  #unfollow: (() => void) | undefined;
  #closed = false;
  /** Announcements that come while the store is being read; undefined while it is not. */
  #waiting: Announced[] | undefined;
  /** The connection came back meanwhile: read once more. */
  #readOnceMore = false;
  /** Both resolve to what failed. */
  #repairing: Promise<WorkflowMonitorError | undefined> | undefined;
  #refreshing: Promise<WorkflowMonitorError | undefined> | undefined;
  /** When a read found nothing new, unless a later one did. */
  #fruitlessAt = Number.NEGATIVE_INFINITY;
  #refreshedAt = Number.NEGATIVE_INFINITY;
  /** Numbers of the last read begun and of the last one done. */
  readonly #reads = { begun: 0, done: 0 };
  /** Since when the store does not have the job, or cannot read it. */
  #missingSince: number | undefined;
  readonly #timers = new Map<TimerName, () => void>();

  constructor(jobId: string, context: ReplicaContext, listener: ReplicaListener) {
    this.#jobId = jobId;
    this.#context = context;
    this.#listener = listener;
  }

  /** The state at the head. There from `open` on. */
  get job(): JobState {
    return this.#job as JobState;
  }

  get cursor(): Cursor {
    return this.#cursor;
  }

  /** False for a job that was over when it was opened: then this is an answer, not a replica. */
  get following(): boolean {
    return this.#unfollow !== undefined;
  }

  /**
   * Gap-free: read (is there anything to follow?), follow, read with history, drop what is covered.
   * Rejects with `unknown_job`, or with what the store rejects with.
   */
  async open(): Promise<void> {
    const first = this.#existing(await this.#read());
    if (!first.job?.done) await this.#follow();
    let record = this.#existing(await this.#read(ORIGIN));
    if (!record.job?.done && !this.#unfollow) {
      // It was over, and began again between the two reads.
      await this.#follow();
      record = this.#existing(await this.#read(ORIGIN));
    }
    if (this.#closed) return;
    this.#take(record);
    this.#hearWaiting();
    if (this.#unfollow) this.#scheduleCheck();
  }

  /** The store is back: what was announced meanwhile is to be read. Resolves when it has answered. */
  async reread(): Promise<void> {
    if (!this.#unfollow) return; // still opening: a read that comes after this is to come
    if (this.#waiting) this.#readOnceMore = true;
    else await this.#repair();
  }

  close(): void {
    this.#closed = true;
    this.#unfollow?.();
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
  }

  /** The events after a cursor of this epoch; undefined when history does not reach back to it. */
  since(cursor: Cursor | null): Buffer[] | undefined {
    const missed = this.missedBy(cursor);
    return missed === undefined ? undefined : this.#history.last(missed);
  }

  /** How many revisions there are after a cursor; undefined for one that is not of this log. */
  missedBy(cursor: Cursor | null): number | undefined {
    return cursor && this.#reaches(cursor) ? this.#cursor.revision - cursor.revision : undefined;
  }

  #reaches(cursor: Cursor): boolean {
    return cursor.epoch === this.#cursor.epoch && cursor.revision <= this.#cursor.revision;
  }

  /** The number of the last read begun: what `catchUpTo` takes as "by now". */
  get readsBegun(): number {
    return this.#reads.begun;
  }

  get readsDone(): number {
    return this.#reads.done;
  }

  /**
   * A cursor that is ahead of the head or of another epoch: another node may know more, so the store
   * is asked, once for everybody and at most once a second. Resolves when it is known, or when a
   * read that began after `readsBegun` did not know it either: then it is nobody's. Rejects with
   * `unavailable` or `damaged` when nobody can tell: within an epoch nobody is sent back.
   */
  async catchUpTo(cursor: Cursor, readsBegun: number): Promise<void> {
    while (!this.#closed && !this.#reaches(cursor) && this.#reads.done <= readsBegun) {
      this.#refreshing ??= this.#refresh().finally(() => {
        this.#refreshing = undefined;
      });
      const failure = await this.#refreshing;
      if (failure && !this.#closed) throw failure;
    }
    const ahead = cursor.epoch === this.#cursor.epoch && !this.#reaches(cursor);
    if (ahead && this.#missingSince !== undefined) {
      throw new WorkflowMonitorError("unavailable", "The store has lost the job: try again.");
    }
  }

  async #refresh(): Promise<WorkflowMonitorError | undefined> {
    const { clock } = this.#context;
    const wait = this.#refreshedAt + READ_AGAIN_MS - clock.monotonic();
    // Does not end when this closes: who waits is told by the room.
    if (wait > 0) await new Promise<void>((resolve) => this.#setTimer("refresh", wait, resolve));
    this.#refreshedAt = clock.monotonic();
    return this.#repair();
  }

  /** Reads what announcements did not bring. One read at a time. */
  #repair(): Promise<WorkflowMonitorError | undefined> {
    this.#repairing ??= this.#readAndTake();
    return this.#repairing;
  }

  async #readAndTake(): Promise<WorkflowMonitorError | undefined> {
    this.#waiting = [];
    const before = this.#cursor;
    let record: JobRecord | undefined;
    let failure: WorkflowMonitorError | undefined;
    try {
      record = await this.#read(before);
    } catch (thrown) {
      failure = thrown as WorkflowMonitorError;
    }
    if (this.#closed) return failure;
    if (failure?.code === "damaged") this.#missing(failure);
    else if (failure) this.#setTimer("again", READ_AGAIN_MS, () => void this.#repair());
    else if (record && !record.expired) this.#take(record);
    else this.#missing(unknownJob(this.#jobId));
    const { clock } = this.#context;
    this.#fruitlessAt = this.#cursor === before ? clock.monotonic() : Number.NEGATIVE_INFINITY;
    this.#repairing = undefined;
    this.#hearWaiting();
    return failure;
  }

  /**
   * Reads for an announcement that does not follow. It may be false: after a read that found nothing new, the
   * next one waits for a second. SPEC D13.
   */
  #hint(): void {
    const wait = this.#fruitlessAt + READ_AGAIN_MS - this.#context.clock.monotonic();
    if (wait <= 0) void this.#repair();
    else if (!this.#timers.has("hint")) this.#setTimer("hint", wait, () => void this.#repair());
  }

  async #read(after?: Cursor): Promise<JobRecord | undefined> {
    const { store, faults } = this.#context;
    this.#reads.begun += 1;
    const number = this.#reads.begun;
    try {
      const record = await store.read(this.#jobId, after);
      this.#reads.done = number;
      return record;
    } catch (thrown) {
      throw faults.shown(thrown, this.#jobId);
    }
  }

  #existing(record: JobRecord | undefined): JobRecord {
    if (record && !record.expired) return record;
    this.close();
    throw unknownJob(this.#jobId);
  }

  async #follow(): Promise<void> {
    const { store, faults } = this.#context;
    this.#waiting = [];
    try {
      const unfollow = await store.follow(this.#jobId, (batch) => this.#hear(batch));
      if (this.#closed) unfollow();
      else this.#unfollow = unfollow;
    } catch (thrown) {
      throw faults.shown(thrown, this.#jobId);
    }
  }

  #hear(batch: Announced): void {
    if (this.#closed) return;
    if (!this.#waiting) this.#hearBatch(batch);
    else if (this.#waiting.length < MAX_NOTES) this.#waiting.push(batch);
    // The last one stands for those before it: it does not follow, unless the read covers it.
    else this.#waiting[MAX_NOTES - 1] = batch;
  }

  #hearWaiting(): void {
    const batches = this.#waiting ?? [];
    const readOnceMore = this.#readOnceMore;
    this.#waiting = undefined;
    this.#readOnceMore = false;
    for (const batch of batches) this.#hear(batch);
    if (readOnceMore) void this.#repair();
  }

  #hearBatch({ cursor, revisions }: Announced): void {
    const sameEpoch = cursor.epoch === this.#cursor.epoch;
    if (sameEpoch && cursor.revision <= this.#cursor.revision) return; // covered by what was read
    const follows = sameEpoch && cursor.revision - revisions.length === this.#cursor.revision;
    if (follows) this.#advance(cursor, revisions);
    else this.#hint();
  }

  #advance(cursor: Cursor, announced: readonly Revision[]): void {
    this.#found();
    const { clock, limits, stallTimeoutMs, frames } = this.#context;
    const revisions = frames.present
      ? announced.map(({ event, patch }) => ({ event: encodeEvent(event, frames), patch }))
      : announced;
    let { job } = this;
    const jobs = revisions.map(({ patch }) => {
      job = applyPatch(job, patch);
      return job;
    });
    this.#job = job;
    this.#cursor = cursor;
    this.#history.append(
      revisions.map(({ event }) => event),
      clock.monotonic(),
    );
    this.#listener.advanced(revisions, jobs);
    this.#history.trim(limits.historyBytes, clock.monotonic(), stallTimeoutMs);
  }

  #take({ cursor, job, events = [] }: JobRecord): void {
    this.#found();
    const sameEpoch = cursor.epoch === this.#cursor.epoch;
    const missed = sameEpoch ? cursor.revision - this.#cursor.revision : Number.POSITIVE_INFINITY;
    if (!job || missed <= 0) return;
    if (events.length !== missed) this.#history.clear(); // they do not join on to what it holds
    const { clock, frames } = this.#context;
    const shown = events.map((event) => encodeEvent(event, frames));
    this.#history.append(shown, clock.monotonic());
    this.#job = job;
    this.#cursor = cursor;
    this.#listener.jumped();
  }

  /** The store lost it or cannot read it, or its time is over. A publisher may bring it back. SPEC R15, R20. */
  #missing(error: WorkflowMonitorError): void {
    const now = this.#context.clock.monotonic();
    this.#missingSince ??= now;
    const rest = this.#missingSince + VANISHED_MS - now;
    if (rest <= 0) this.#listener.vanished(error);
    // It may be back unheard: what is read then decides.
    else this.#setTimer("vanish", rest, () => void this.#repair());
  }

  #found(): void {
    this.#missingSince = undefined;
    this.#cancelTimer("vanish");
  }

  /** Announcements can get lost in silence. */
  #scheduleCheck(): void {
    this.#setTimer("check", CHECK_MS.least + Math.random() * CHECK_MS.spread, () => {
      void this.#repair();
      this.#scheduleCheck();
    });
  }

  #setTimer(name: TimerName, ms: number, fn: () => void): void {
    this.#cancelTimer(name);
    const cancel = this.#context.clock.setTimeout(() => {
      this.#timers.delete(name);
      fn();
    }, ms);
    this.#timers.set(name, cancel);
  }

  #cancelTimer(name: TimerName): void {
    this.#timers.get(name)?.();
    this.#timers.delete(name);
  }
}
