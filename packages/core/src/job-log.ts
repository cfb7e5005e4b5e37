import { HISTORY_STRETCH } from "./limits.js";
import type { Batch, Cursor } from "./revision.js";
import type { JobState } from "./snapshot.js";

/** What a batch left in the log. */
interface Entry {
  id: string;
  /** The revision after it. */
  end: number;
  events: number;
  bytes: number;
  /** When it came, by the monotonic clock. */
  at: number;
}

/** `find` knows the last batches only. */
const FINDABLE = 64;

/**
 * Memory in bytes besides texts: objects, and places in arrays and maps. Measured as the growth of the heap
 * after a collection (`node --expose-gc`, Node 20, 64-bit): 830 to 1,000 a job of one event, 142 a batch, 28
 * an event. What is counted was 1 to 1.25 times of what was measured, with 1 to 64,000 events and up to 5,000
 * stages a job; metadata of nothing but tiny values made it 0.8 to 1.8.
 */
const COST = { job: 800, batch: 144, event: 32, value: 16 };
/** What a revision adds to the head at most, besides its event's text: for each stage that it changes, or begins. */
const GROWTH = { changed: 64, begun: 512 };
/** The head is measured again when it may have doubled, and grown by this much. */
const REMEASURE_BYTES = 4096;

/** One job's log: its head and the texts of its last events. */
export class JobLog {
  readonly jobId: string;
  /** Its place in the list, with its id. */
  createdAt: string;
  /** What this epoch was built on. */
  readonly carried: Cursor[] | undefined;
  cursor: Cursor;
  job: JobState;
  /** Readable until then; a done job is remembered for as long again. */
  expiresAt = 0;
  forgetAt = 0;
  #events: string[] = [];
  #batches: Entry[] = [];
  #eventBytes = 0;
  #headBytes = 0;
  /** By how much the head may have grown since it was measured, at most. */
  #growth = 0;

  constructor(epoch: string, job: JobState, carried: Cursor[] | undefined) {
    this.jobId = job.jobId;
    this.createdAt = job.createdAt;
    this.job = job;
    this.carried = carried;
    this.cursor = { epoch, revision: 0 };
  }

  /** The memory that it takes. */
  get bytes(): number {
    return (
      COST.job +
      this.#headBytes +
      this.#growth +
      this.#eventBytes +
      COST.event * this.#events.length +
      COST.batch * this.#batches.length
    );
  }

  /** Changes all of it, or throws and changes nothing. */
  append({ id, revisions, job, ttlMs }: Batch, now: number): void {
    let bytes = 0;
    let growth = this.#growth;
    for (const { event, patch } of revisions) {
      const size = textBytes(event);
      bytes += size;
      const stages = patch.stages?.length ?? 0;
      growth += size + stages * (patch.stageOrder ? GROWTH.begun : GROWTH.changed);
    }
    const isFar = growth > Math.max(this.#headBytes, REMEASURE_BYTES);
    const isMeasured = job.done || isFar || this.#headBytes === 0;
    if (isMeasured) this.#headBytes = objectBytes(JSON.stringify(job));
    this.#growth = isMeasured ? 0 : growth;
    for (const { event } of revisions) this.#events.push(event);
    const { epoch, revision } = this.cursor;
    const end = revision + revisions.length;
    this.#batches.push({ id, end, events: revisions.length, bytes, at: now });
    this.#eventBytes += bytes;
    this.job = job;
    this.cursor = { epoch, revision: end };
    this.expiresAt = now + ttlMs;
    this.forgetAt = job.done ? this.expiresAt + ttlMs : this.expiresAt;
  }

  /** The last `count` events, or as many as there are. */
  last(count: number): string[] {
    return count === 0 ? [] : this.#events.slice(-count);
  }

  find(batchId: string): Cursor | undefined {
    const batch = this.#batches.slice(-FINDABLE).find(({ id }) => id === batchId);
    return batch && { epoch: this.cursor.epoch, revision: batch.end };
  }

  /** Lets go of the oldest history: beyond `historyBytes`, if it came before `youngSince`; beyond several times that, of any age. */
  trim(historyBytes: number, youngSince: number): void {
    let spare = 0;
    let count = 0;
    for (const batch of this.#batches) {
      const rest = this.#eventBytes - spare - batch.bytes;
      const young = batch.at > youngSince && rest < historyBytes * (HISTORY_STRETCH - 1);
      if (rest < historyBytes || young) break;
      spare += batch.bytes;
      count += 1;
    }
    // Shifting an array costs its length: only when it is worth it.
    if (spare >= historyBytes / 8) this.#drop(count);
  }

  /** Lets go of the history that came before `youngSince`. */
  shed(youngSince: number): void {
    const first = this.#batches.findIndex(({ at }) => at > youngSince);
    this.#drop(first < 0 ? this.#batches.length : first);
  }

  #drop(count: number): void {
    if (count === 0) return;
    let events = 0;
    for (const batch of this.#batches.slice(0, count)) {
      events += batch.events;
      this.#eventBytes -= batch.bytes;
    }
    // Copies: what is cut off an array in place may keep its memory.
    this.#batches = this.#batches.slice(count);
    this.#events = this.#events.slice(events);
  }
}

/** What V8 takes for a text: a byte a character, two when one of them is not ASCII (Latin-1 needs less). */
const textBytes = (text: string): number =>
  Buffer.byteLength(text) === text.length ? text.length : 2 * text.length;

const [COMMA, BRACKET, BRACE] = [0x2c, 0x5b, 0x7b];

/** What objects take: about as much as their JSON text, but a value at least 16 bytes. */
function objectBytes(json: string): number {
  let values = 0;
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at);
    if (code === COMMA || code === BRACKET || code === BRACE) values += 1;
  }
  return Math.max(Buffer.byteLength(json), COST.value * values);
}
