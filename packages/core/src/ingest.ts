import { randomUUID } from "node:crypto";
import { toMonitorError, WorkflowMonitorError } from "./errors.js";
import type { PublicError } from "./events.js";
import { type Base, type Folded, fold, type Stamped, type Step } from "./fold.js";
import type { Clock, Logger } from "./host.js";
import type { Limits } from "./limits.js";
import { type NormaliseContext, normalise } from "./normalise.js";
import { type Cursor, ORIGIN, type Revision, sameCursor } from "./revision.js";
import type { JobRecord, JobStore } from "./store.js";

/**
 * From engines to the store: events are normalised where they are emitted, wait in one queue a job
 * (first in, first out), are folded into the job's state and appended in batches.
 */
export interface Ingest {
  /** Takes an event with its `type`; resolves to the cursor that contains it. Never throws; rejects with a WorkflowMonitorError. */
  publish(input: unknown): Promise<Cursor>;
  /** Takes an event whose sender does not wait: what is wrong with it goes to `report`. Never throws. */
  accept(type: "plan" | "job" | "stage", input: unknown): void;
  /** Refuses new events with `closed`; resolves when nothing waits any more. */
  finish(): Promise<void>;
  /** Rejects what still waits with `closed`. */
  close(): void;
  /** Jobs whose state is held, events taken and events refused since the start. */
  readonly stats: { jobs: number; published: number; refused: number };
}

export interface IngestOptions {
  store: JobStore;
  clock: Clock;
  logger: Logger;
  limits: Limits;
  retainMs: number;
  abandonMs: number;
  redactError?:
    | ((error: unknown, at: { jobId: string; stage?: string }) => PublicError)
    | undefined;
  /** Hears of each event that was refused or shortened. */
  report(error: WorkflowMonitorError): void;
  /** Hears of each revision that this process appended, after the store acknowledged it. */
  onRevision(cursor: Cursor, step: Step): void;
}

/** One turn of the event loop takes at most this much of a job's queue: a flood never holds the loop. */
const BATCH_EVENTS = 64;
const BATCH_BYTES = 64 * 1024;
const MAX_CONFLICTS = 64;
/** Jobs whose state is kept although nothing waits, so that their next event need not read the store. */
const IDLE_LANES = 1_000;
const BACKOFF_MS = { first: 100, most: 5_000 };

interface Waiting extends Stamped {
  settle(outcome: Cursor | WorkflowMonitorError): void;
}

export function createIngest(options: IngestOptions): Ingest {
  const { clock, limits, report } = options;
  const busy = new Map<string, Lane>();
  const idle = new Map<string, Lane>(); // in order of their last event
  let published = 0;
  let refused = 0;
  let queued = 0;
  let finishing = false;
  const closing = new AbortController();
  let queuedBytes = 0;
  let idleWaiters: (() => void)[] = [];

  /** `type` null: the event says it itself. */
  function take(type: string | null, input: unknown, settle: Waiting["settle"]): void {
    if (finishing) return settle(closedError());
    let normalised: ReturnType<typeof normalise>;
    try {
      const context: NormaliseContext = {
        now: clock.now(),
        maxStages: limits.stages,
        redactError: options.redactError,
      };
      normalised = normalise(type ?? (input as { type?: unknown } | null)?.type, input, context);
    } catch (thrown) {
      return settle(toMonitorError(thrown, "refused", "The event could not be read."));
    }
    const { jobId, event, text, notices } = normalised;
    if (queued >= limits.queuedEvents || queuedBytes + text.length > limits.queuedBytes) {
      const message = "Too many events wait to be stored: publish slower, or try again later.";
      return settle(new WorkflowMonitorError("overloaded", message, { jobId }));
    }
    queued += 1;
    queuedBytes += text.length;
    const done = (outcome: Cursor | WorkflowMonitorError) => {
      queued -= 1;
      queuedBytes -= text.length;
      if (notices.length > 0 && !(outcome instanceof Error)) {
        report(new WorkflowMonitorError("shortened", notices.join(" "), { jobId }));
      }
      settle(outcome);
    };
    const lane =
      busy.get(jobId) ?? idle.get(jobId) ?? new Lane(jobId, options, closing.signal, rest);
    lane.queue.push({ event, text, settle: done });
    if (busy.has(jobId)) return;
    idle.delete(jobId);
    busy.set(jobId, lane);
    void lane.run();
  }

  /** A lane ran dry. What is finished needs no memory here: the store has it. */
  function rest(lane: Lane): void {
    busy.delete(lane.jobId);
    if (lane.worthKeeping) idle.set(lane.jobId, lane);
    if (idle.size > IDLE_LANES) idle.delete(idle.keys().next().value as string);
    if (busy.size > 0) return;
    for (const resolve of idleWaiters) resolve();
    idleWaiters = [];
  }

  function count(outcome: Cursor | WorkflowMonitorError): outcome is Cursor {
    const stored = !(outcome instanceof Error);
    if (stored) published += 1;
    else if (outcome.code !== "closed") {
      refused += 1;
      report(outcome);
    }
    return stored;
  }

  return {
    get stats() {
      return { jobs: busy.size + idle.size, published, refused };
    },
    publish(input) {
      const promise = new Promise<Cursor>((resolve, reject) => {
        take(null, input, (outcome) => (count(outcome) ? resolve(outcome) : reject(outcome)));
      });
      // Handled here, so that a host that does not await it is not ended by it.
      promise.catch(() => {});
      return promise;
    },
    accept(type, input) {
      take(type, input, count);
    },
    finish() {
      finishing = true;
      return busy.size === 0
        ? Promise.resolve()
        : new Promise((resolve) => idleWaiters.push(resolve));
    },
    close() {
      finishing = true;
      closing.abort();
    },
  };
}

const closedError = () => new WorkflowMonitorError("closed", "The monitor is closed.");

interface Head extends Base {
  /** Null: there is no log yet. */
  cursor: Cursor | null;
}

const NO_IDS: ReadonlySet<string> = new Set();

/** One job's events on their way to the store. */
class Lane {
  readonly jobId: string;
  readonly queue: Waiting[] = [];
  readonly #options: IngestOptions;
  readonly #closing: AbortSignal;
  #head: Head | undefined;
  #ids: Set<string> | undefined; // of the events in history; read when an event with an id comes
  #idsRead = 0;
  readonly #onDry: (lane: Lane) => void;

  constructor(
    jobId: string,
    options: IngestOptions,
    closing: AbortSignal,
    onDry: (lane: Lane) => void,
  ) {
    this.jobId = jobId;
    this.#options = options;
    this.#closing = closing;
    this.#onDry = onDry;
  }

  get worthKeeping(): boolean {
    return this.#head?.job !== undefined;
  }

  /** Works until the queue is empty: a batch a turn. */
  async run(): Promise<void> {
    while (this.queue.length > 0) {
      await new Promise(setImmediate);
      const batch = this.#take();
      try {
        await this.#append(batch);
      } catch (thrown) {
        const error = toMonitorError(thrown, "internal", "The event could not be stored.");
        for (const waiting of batch) waiting.settle(error);
      }
      // Of a job that is over the store decides how long it is remembered.
      if (this.#head?.job?.done) this.#head = undefined;
    }
    // In the same turn as the look at the queue: an event that comes later finds the lane at rest.
    this.#onDry(this);
  }

  #take(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const { text } of this.queue) {
      bytes += text.length;
      if (count === BATCH_EVENTS || (count > 0 && bytes > BATCH_BYTES)) break;
      count += 1;
    }
    return this.queue.splice(0, count);
  }

  async #append(batch: Waiting[]): Promise<void> {
    const { store, limits, retainMs, abandonMs } = this.#options;
    const id = randomUUID();
    for (let conflicts = 0; conflicts < MAX_CONFLICTS; conflicts++) {
      if (this.#closing.aborted) throw closedError();
      const cached = this.#head !== undefined;
      const head = await this.#read(batch.some(({ event }) => event.id !== undefined));
      const folded = fold(this.jobId, head, batch, limits.stages);
      const { job, revisions } = folded;
      if (!job || revisions.length === 0) {
        // Nothing is compared when nothing is appended: others may have moved the head meanwhile.
        if (!cached || (await this.#isHead(head.cursor))) {
          return this.#settle(batch, folded, head.cursor, head.cursor);
        }
        this.#head = undefined;
        continue;
      }

      const ttlMs = job.done ? retainMs : abandonMs;
      let cursor: Cursor | false;
      try {
        cursor = await store.append(this.jobId, head.cursor, { id, revisions, job, ttlMs });
      } catch (thrown) {
        if (toMonitorError(thrown, "internal", "").code === "closed") throw closedError();
        this.#options.logger.warn(
          { jobId: this.jobId, err: thrown },
          "append failed: looking it up",
        );
        this.#head = undefined;
        // Nobody knows whether it is stored. Only when it is not, it is appended again.
        const record = await this.#readUntilAnswered(ORIGIN);
        if (record?.batchIds?.includes(id)) {
          return this.#settle(batch, folded, endOf(revisions, record), record.cursor);
        }
        continue;
      }
      if (cursor) {
        this.#head = { job, cursor, expired: false, ids: NO_IDS };
        for (const { event } of folded.steps) if (event.id !== undefined) this.#ids?.add(event.id);
        return this.#settle(batch, folded, cursor, cursor);
      }
      this.#head = undefined;
      await this.#sleep(Math.random() * Math.min(2 ** conflicts, 100));
    }
    const message = `Other publishers of this job came first ${MAX_CONFLICTS} times: publish again.`;
    throw new WorkflowMonitorError("conflict", message, { jobId: this.jobId });
  }

  async #isHead(cursor: Cursor | null): Promise<boolean> {
    const record = await this.#readUntilAnswered(cursor ?? undefined);
    return record && cursor ? sameCursor(record.cursor, cursor) : !record && !cursor;
  }

  /** Tells the senders. `end` is the cursor after the fold's last revision, null when nobody knows any more. */
  #settle(batch: Waiting[], folded: Folded, end: Cursor | null, head: Cursor | null): void {
    const count = folded.revisions.length;
    const at = (revisions: number): Cursor | null =>
      end && { epoch: end.epoch, revision: end.revision - count + revisions };
    folded.steps.forEach((step, index) => {
      const cursor = at(index + 1);
      if (cursor) this.#options.onRevision(cursor, step);
    });
    folded.outcomes.forEach(({ revisions, refused }, index) => {
      const cursor = at(revisions) ?? head;
      const outcome = refused ?? cursor;
      batch[index]?.settle(
        outcome ?? new WorkflowMonitorError("internal", "The event made no job."),
      );
    });
  }

  /** The head of the log as this lane knows it, else as the store does. */
  async #read(withIds: boolean): Promise<Head> {
    // Ids leave history some time: the log, not this set, is the memory of them.
    const outgrown = this.#ids && this.#ids.size > 2 * this.#idsRead + 1_000;
    const known = !withIds || (this.#ids && !outgrown);
    if (this.#head && known) return { ...this.#head, ids: this.#ids ?? NO_IDS };
    const record = await this.#readUntilAnswered(withIds ? ORIGIN : undefined);
    this.#ids = withIds ? idsOf(record?.events ?? []) : undefined;
    this.#idsRead = this.#ids?.size ?? 0;
    this.#head = {
      job: record?.job,
      cursor: record?.cursor ?? null,
      expired: record?.expired === true && record.job?.done === true,
      ids: NO_IDS,
    };
    return { ...this.#head, ids: this.#ids ?? NO_IDS };
  }

  /** Asks the store until it answers: events wait while it is away. */
  async #readUntilAnswered(after: Cursor | undefined): Promise<JobRecord | undefined> {
    for (let wait = BACKOFF_MS.first; ; wait = Math.min(2 * wait, BACKOFF_MS.most)) {
      if (this.#closing.aborted) throw closedError();
      try {
        return await this.#options.store.read(this.jobId, after);
      } catch (thrown) {
        if (toMonitorError(thrown, "internal", "").code === "closed") throw closedError();
        this.#options.logger.warn({ jobId: this.jobId, err: thrown }, "the store does not answer");
        await this.#sleep(wait * (0.5 + Math.random() / 2));
      }
    }
  }

  /** Ends early when the monitor closes. */
  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        cancel();
        this.#closing.removeEventListener("abort", end);
        resolve();
      };
      const cancel = this.#options.clock.setTimeout(end, ms);
      this.#closing.addEventListener("abort", end);
    });
  }
}

/** Where a batch ends in a log that others have appended to since: its texts are searched from the newest. */
function endOf(revisions: readonly Revision[], { cursor, events = [] }: JobRecord): Cursor | null {
  for (let end = events.length; end >= revisions.length; end--) {
    const start = end - revisions.length;
    if (revisions.every(({ event }, at) => event === events[start + at])) {
      return { epoch: cursor.epoch, revision: cursor.revision - (events.length - end) };
    }
  }
  return null;
}

function idsOf(texts: string[]): Set<string> {
  const ids = new Set<string>();
  for (const text of texts) {
    if (!text.includes('"id":')) continue;
    const { id } = JSON.parse(text) as { id?: string };
    if (id !== undefined) ids.add(id);
  }
  return ids;
}
