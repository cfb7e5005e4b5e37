import { randomBytes } from "node:crypto";
import { closedError, toMonitorError, WorkflowMonitorError } from "./errors.js";
import type { WorkflowEvent } from "./events.js";
import { type Base, type Folded, fold, type Stamped, type Step } from "./fold.js";
import type { Clock, Logger } from "./host.js";
import type { Limits } from "./limits.js";
import { merge } from "./merge.js";
import { type Cursor, ORIGIN, sameCursor } from "./revision.js";
import type { JobState } from "./snapshot.js";
import type { JobRecord, JobStore } from "./store.js";
import type { StoreFaults } from "./store-faults.js";
import type { Turns } from "./turns.js";

export interface LaneContext {
  store: JobStore;
  clock: Clock;
  turns: Turns;
  logger: Logger;
  faults: StoreFaults;
  limits: Limits;
  retainMs: number;
  abandonMs: number;
  /** Hears of each revision that this process appended, after the store acknowledged it. */
  onRevision(cursor: Cursor, step: Step): void;
  /** Aborted: what still waits is rejected with `closed`. */
  closing: AbortSignal;
  /** Ends each sleep early; one set for all, since a signal warns of more than ten listeners. */
  sleepers: Set<() => void>;
}

/** Tells a sender what became of his event. */
export type Settle = (outcome: Cursor | WorkflowMonitorError) => void;

interface Waiting extends Stamped {
  settle: Settle;
}

interface Head extends Base {
  /** Null: there is no log yet. */
  cursor: Cursor | null;
}

/** What the store said that it has. */
interface Acknowledged {
  job: JobState;
  cursor: Cursor;
  /** From then on, by the monotonic clock, the store may have forgotten it. SPEC R15. */
  until: number;
}

/** One turn of the event loop takes at most this much of a job's queue: a flood never holds the loop. */
const BATCH_EVENTS = 64;
const BATCH_BYTES = 64 * 1024;
/** An event of a job looks at each of its stages. */
const BATCH_STAGES = 40_000;
/** What a batch costs of a turn, in bytes that could be sent meanwhile: in itself, for each event, for each stage that an event looks at. Measured. */
const COST = { batch: 16 * 1024, event: 1024, stage: 40 };
const LANE_BYTES = { job: 4 * 1024, stage: 1024 };
const MAX_CONFLICTS = 64;
const BACKOFF_MS = { first: 100, most: 5_000 };
const NO_IDS: ReadonlySet<string> = new Set();

/** One job's events on their way to the store. */
export class Lane {
  readonly jobId: string;
  readonly queue: Waiting[] = [];
  readonly #context: LaneContext;
  readonly #onDry: (lane: Lane) => void;
  #head: Head | undefined;
  /** Others have moved the head, or may have. */
  #headIsOld = false;
  /** Of the events in history; read when an event with an id comes. */
  #ids: Set<string> | undefined;
  #idsRead = 0;
  #acknowledged: Acknowledged | undefined;
  #mustVerify = false;
  /** How many stages the job had. */
  #stages = 0;

  constructor(jobId: string, context: LaneContext, onDry: (lane: Lane) => void) {
    this.jobId = jobId;
    this.#context = context;
    this.#onDry = onDry;
  }

  /** The memory that its state takes, about, in bytes: measured, a stage of which little changed takes 0.4 KB. */
  get bytes(): number {
    const stages = (this.#acknowledged?.job ?? this.#head?.job)?.stages.length ?? 0;
    return LANE_BYTES.job + stages * LANE_BYTES.stage;
  }

  get worthKeeping(): boolean {
    return this.#head?.job !== undefined || this.#acknowledged !== undefined;
  }

  /** Compares what the store acknowledged with what it has, in the next turn of `run`. */
  verify(): void {
    this.#mustVerify = true;
  }

  /** Works until the queue is empty: a batch a turn. */
  async run(): Promise<void> {
    while (this.queue.length > 0 || this.#mustVerify) {
      const batch = await this.#nextBatch();
      try {
        if (this.#mustVerify) await this.#verify();
        if (batch.length > 0) await this.#append(batch);
      } catch (thrown) {
        const error = toMonitorError(thrown, "internal", "The event could not be stored.");
        const rejected = error.code === "damaged" ? [...batch, ...this.#forget()] : batch;
        for (const waiting of rejected) waiting.settle(error);
      }
      // Of a job that is over the store decides how long it is remembered.
      if (this.#head?.job?.done) this.#head = undefined;
    }
    // In the same turn as the look at the queue: an event that comes later finds the lane at rest.
    this.#onDry(this);
  }

  /** What is folded at once, when its turn has come. */
  #nextBatch(): Promise<Waiting[]> {
    const { turns } = this.#context;
    return new Promise((resolve) => {
      turns.next(() => {
        const { count, looked } = this.#batchSize();
        turns.spend(COST.batch + count * COST.event + looked * COST.stage);
        resolve(this.queue.splice(0, count));
      });
    });
  }

  #batchSize(): { count: number; looked: number } {
    let bytes = 0;
    let count = 0;
    let stages = this.#stages;
    let looked = 0;
    for (const { event, text } of this.queue) {
      bytes += text.length;
      if (event.type === "plan") stages = Math.max(stages, event.stages.length);
      const isFull = bytes > BATCH_BYTES || looked + stages > BATCH_STAGES;
      if (count === BATCH_EVENTS || (count > 0 && isFull)) break;
      count += 1;
      looked += stages;
    }
    return { count, looked };
  }

  /** Drops what was read of the log and empties the queue, which it returns: the next event reads anew. SPEC R20. */
  #forget(): Waiting[] {
    this.#head = undefined;
    this.#ids = undefined;
    return this.queue.splice(0);
  }

  async #append(batch: Waiting[]): Promise<void> {
    const { store, logger, limits, faults } = this.#context;
    const id = batchId();
    const find = () => this.#untilAnswered(() => store.find(this.jobId, id));
    /** What an append of unknown outcome would have stored. */
    let attempted: Folded | undefined;
    let failures = 0;
    for (let conflicts = 0; conflicts < MAX_CONFLICTS; ) {
      if (this.#context.closing.aborted) throw closedError();
      // Before the read, which may bring back a lost job in a log without its batches …
      const before = attempted && (await find());
      if (attempted && before) return this.#found(batch, attempted, before);
      const cached = this.#head !== undefined && !this.#headIsOld;
      const head = await this.#read(batch.some(({ event }) => event.id !== undefined));
      // … and after it: it may have arrived in between. From now on it would be a conflict.
      const since = attempted && (await find());
      if (attempted && since) return this.#found(batch, attempted, since);
      const folded = fold(this.jobId, head, batch, limits.stages);
      const { job, revisions } = folded;
      this.#stages = job?.stages.length ?? 0;
      if (!job || revisions.length === 0) {
        // Nothing is compared when nothing is appended: others may have moved the head meanwhile.
        if (cached && !(await this.#isHead(head.cursor))) {
          this.#headIsOld = true;
          conflicts += 1;
          continue;
        }
        if (job && head.cursor && !head.expired) this.#acknowledge(job, head.cursor, job.updatedAt);
        return this.#settle(batch, folded, head.cursor);
      }

      const { ttlMs } = this.#lifetime(job);
      let cursor: Cursor | false;
      try {
        cursor = await store.append(this.jobId, head.cursor, { id, revisions, job, ttlMs });
      } catch (thrown) {
        // Nobody knows whether it is stored, or still will be. Only if not, it is appended again.
        attempted = folded;
        this.#headIsOld = true;
        logger.debug({ jobId: this.jobId }, "append failed: looking it up");
        await this.#pause(thrown, failures);
        failures += 1;
        continue;
      }
      if (failures > 0) faults.over();
      if (cursor) {
        this.#acknowledge(job, cursor);
        this.#head = { job, cursor, expired: false, ids: NO_IDS };
        for (const { event } of folded.steps) if (event.id !== undefined) this.#ids?.add(event.id);
        return this.#settle(batch, folded, cursor);
      }
      this.#headIsOld = true;
      await this.#sleep(Math.random() * Math.min(2 ** conflicts, 100));
      conflicts += 1;
    }
    const message = `Other publishers of this job came first ${MAX_CONFLICTS} times: publish again.`;
    throw new WorkflowMonitorError("conflict", message, { jobId: this.jobId });
  }

  /** An append of unknown outcome is stored. */
  #found(batch: Waiting[], attempted: Folded, cursor: Cursor): void {
    this.#headIsOld = true;
    if (attempted.job) this.#acknowledge(attempted.job, cursor);
    this.#settle(batch, attempted, cursor);
  }

  /** @param since when it was stored, if others did that: its time to read is not renewed */
  #acknowledge(job: JobState, cursor: Cursor, since?: string): void {
    const { ttlMs, until } = this.#lifetime(job);
    const known = this.#acknowledged;
    if (since !== undefined && known && sameCursor(known.cursor, cursor)) return;
    // A timestamp is of the wall clock: only how long ago it was is of use here.
    const age = since === undefined ? 0 : this.#context.clock.now() - Date.parse(since);
    this.#acknowledged = { job, cursor, until: until - Math.min(Math.max(0, age), ttlMs) };
  }

  async #isHead(cursor: Cursor | null): Promise<boolean> {
    const record = await this.#ask(cursor ?? undefined);
    return record && cursor ? sameCursor(record.cursor, cursor) : !record && !cursor;
  }

  /** Tells the senders. `head` is the cursor after the fold's last revision. */
  #settle(batch: Waiting[], folded: Folded, head: Cursor | null): void {
    const before = (head?.revision ?? 0) - folded.revisions.length;
    // In the base of a newer epoch there are no revisions to tell of.
    const at = (revisions: number): Cursor | null =>
      head && before >= 0 ? { ...head, revision: before + revisions } : head;
    folded.steps.forEach((step, index) => {
      if (head) this.#context.onRevision(at(index + 1) ?? head, step);
    });
    folded.outcomes.forEach(({ revisions, refused }, index) => {
      const outcome = refused ?? at(revisions);
      batch[index]?.settle(
        outcome ?? new WorkflowMonitorError("internal", "The event made no job."),
      );
    });
  }

  /** The head of the log as this lane knows it, else as the store does. */
  async #read(withIds: boolean): Promise<Head> {
    // Ids leave history some time: the log, not this set, is the memory of them.
    if (this.#ids && this.#ids.size > 2 * this.#idsRead + 1_000) this.#ids = undefined;
    const missing = withIds && !this.#ids;
    if (!this.#head || this.#headIsOld || missing) {
      const old = missing ? undefined : this.#head;
      const record = await this.#readStore(old?.cursor ?? (withIds ? ORIGIN : undefined));
      if (withIds || this.#ids) this.#learnIds(record, old?.cursor ?? ORIGIN);
      this.#head = {
        job: record?.job ?? (record && old?.job),
        cursor: record?.cursor ?? null,
        expired: record?.expired === true && (record.job ?? old?.job)?.done === true,
        ids: NO_IDS,
      };
      this.#headIsOld = false;
    }
    return { ...this.#head, ids: this.#ids ?? NO_IDS };
  }

  /** The ids of the events after a cursor join those that are known, unless history does not reach back to it. */
  #learnIds(record: JobRecord | undefined, after: Cursor): void {
    const { cursor, events = [] } = record ?? {};
    const gap = cursor?.epoch === after.epoch && cursor.revision - after.revision > events.length;
    const known = gap ? [] : (this.#ids ?? []);
    this.#ids = new Set([...known, ...idsOf(events)]);
    this.#idsRead = this.#ids.size;
  }

  // ── what the store lost ────────────────────────────────────────────────────────────────────────

  async #verify(): Promise<void> {
    this.#mustVerify = false;
    this.#headIsOld = true;
    if (this.#acknowledged) await this.#readStore(this.#acknowledged.cursor);
  }

  /** What the store has, after it has got back what it acknowledged to this lane and lost. */
  async #readStore(after: Cursor | undefined): Promise<JobRecord | undefined> {
    for (let conflicts = 0, failures = 0; ; ) {
      const record = await this.#ask(after);
      const known = this.#acknowledged;
      if (!known || this.#context.clock.monotonic() >= known.until) return record;
      if (conflicts === MAX_CONFLICTS || (record && contains(record, known.cursor))) return record;
      try {
        await this.#carry(known, record);
        conflicts += 1;
      } catch (thrown) {
        await this.#pause(thrown, failures);
        failures += 1;
      }
    }
  }

  /** Makes the state that was acknowledged, and what the store has instead, the base of a new epoch. */
  async #carry(known: Acknowledged, lost: JobRecord | undefined): Promise<void> {
    const { logger, store, limits } = this.#context;
    const record = lost && (await this.#ask(ORIGIN));
    if (record && contains(record, known.cursor)) return; // by somebody else, in between
    const { cursor: base = null, events = [], job: theirs } = record ?? {};
    // What others said since, to the word, as far as history goes …
    const carried = { job: known.job, expired: false, ids: NO_IDS };
    const told = fold(this.jobId, carried, events.map(stamped), limits.stages).job ?? known.job;
    // … and what is in its base, which may be older than what is known here, or not.
    const job = theirs ? merge(told, theirs) : told;
    const { ttlMs } = this.#lifetime(job);
    const batch = { id: batchId(), revisions: [], job, ttlMs, carries: known.cursor };
    const cursor = await store.append(this.jobId, base, batch);
    if (!cursor) return;
    this.#acknowledge(job, cursor);
    logger.warn({ jobId: this.jobId, cursor, carries: known.cursor }, "brought back a lost job");
  }

  // ── the store, whenever it answers ─────────────────────────────────────────────────────────────

  #lifetime({ done }: JobState): { ttlMs: number; until: number } {
    const ttlMs = done ? this.#context.retainMs : this.#context.abandonMs;
    return { ttlMs, until: this.#context.clock.monotonic() + ttlMs };
  }

  #ask(after: Cursor | undefined): Promise<JobRecord | undefined> {
    return this.#untilAnswered(() => this.#context.store.read(this.jobId, after));
  }

  /** Asks the store until it answers: events wait while it is away. */
  async #untilAnswered<T>(ask: () => T | Promise<T>): Promise<T> {
    for (let failures = 0; ; failures++) {
      if (this.#context.closing.aborted) throw closedError();
      try {
        const answer = await ask();
        if (failures > 0) this.#context.faults.over();
        return answer;
      } catch (thrown) {
        await this.#pause(thrown, failures);
      }
    }
  }

  /**
   * Waits after a failed call, the longer the more have failed before. Throws instead where waiting does not
   * help: the monitor or the store is closed, or the job's data cannot be read.
   */
  async #pause(thrown: unknown, failures: number): Promise<void> {
    const error = this.#context.faults.note(thrown, this.jobId);
    if (error.code === "closed" || this.#context.closing.aborted) throw closedError();
    if (error.code === "damaged") throw error;
    const wait = Math.min(BACKOFF_MS.first * 2 ** failures, BACKOFF_MS.most);
    await this.#sleep(wait * (0.5 + Math.random() / 2));
  }

  /** Ends early when the store is back, or the monitor closes. */
  #sleep(ms: number): Promise<void> {
    const { clock, sleepers } = this.#context;
    return new Promise((resolve) => {
      const end = () => {
        cancel();
        sleepers.delete(end);
        resolve();
      };
      const cancel = clock.setTimeout(end, ms);
      sleepers.add(end);
    });
  }
}

/** Random once a process, then counted: a UUID for each batch would cost more than its look-up. */
const PROCESS = randomBytes(12).toString("base64url");
let batches = 0;
const batchId = (): string => `${PROCESS}.${(++batches).toString(36)}`;

/** Whether what a store has goes back to, or beyond, what it acknowledged. */
function contains({ cursor, carried = [] }: JobRecord, known: Cursor): boolean {
  return [cursor, ...carried].some(
    ({ epoch, revision }) => epoch === known.epoch && revision >= known.revision,
  );
}

const stamped = (text: string): Stamped => ({ event: JSON.parse(text) as WorkflowEvent, text });

function idsOf(texts: string[]): Set<string> {
  const ids = new Set<string>();
  for (const text of texts) {
    if (!text.includes('"id":')) continue;
    const { id } = JSON.parse(text) as { id?: string };
    if (id !== undefined) ids.add(id);
  }
  return ids;
}
