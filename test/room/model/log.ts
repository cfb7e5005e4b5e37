import { type Announced, type Cursor, parseCursor } from "@org/workflow-monitor";

interface Entry {
  event: string;
  /** As history counts it: with a comma. */
  bytes: number;
  at: number;
  /** The job is over with it. */
  ends?: true;
}

/** Whoever follows a job knows after this time that it is there. */
const SEEN_MS = 41_000;

/** The truth of a run: every revision that the store took, in each of its lives. */
export class ModelLog {
  readonly #now: () => number;
  readonly #epochs = new Map<string, Entry[]>();
  /** Those that began with a job that was over. */
  readonly #over = new Set<string>();
  #latest: string | undefined;
  #moment = 0;
  /** The moment since which the store has the log; undefined: it has none. */
  #presentSince: number | undefined;
  /** When the store lost it last, and since when somebody may have missed it. */
  #lostAt: number;
  #missedSince: number;
  #backAt = Number.NEGATIVE_INFINITY;
  /** Whether the job is over at the head, and the last moment at which it was. */
  done = false;
  #doneAt = -1;

  constructor(now: () => number) {
    this.#now = now;
    this.#lostAt = now();
    this.#missedSince = now();
  }

  append({ cursor, revisions }: Announced, done: boolean): void {
    const entries = this.#epochs.get(cursor.epoch) ?? [];
    if (entries.length + revisions.length !== cursor.revision) {
      throw new Error(`a batch of ${revisions.length} leads to ${cursor.revision}: not dense`);
    }
    for (const { event } of revisions) {
      entries.push({ event, bytes: Buffer.byteLength(event) + 1, at: this.#now() });
    }
    const last = entries.at(-1);
    if (last && done) last.ends = true;
    else if (done) this.#over.add(cursor.epoch);
    this.#epochs.set(cursor.epoch, entries);
    this.#latest = cursor.epoch;
    if (!this.present) this.#backAt = this.#now();
    this.#presentSince ??= this.next();
    if (this.done) this.#doneAt = this.next();
    this.done = done;
  }

  wasDoneSince(moment: number): boolean {
    return this.done || this.#doneAt >= moment;
  }

  lose(): void {
    if (!this.present) return;
    this.#presentSince = undefined;
    this.#lostAt = this.#now();
    // If it was there for a short time only, nobody need have seen it.
    if (this.#lostAt - this.#backAt > SEEN_MS) this.#missedSince = this.#lostAt;
  }

  /** A number for now: greater than those before. */
  next(): number {
    this.#moment += 1;
    return this.#moment;
  }

  get present(): boolean {
    return this.#presentSince !== undefined;
  }

  get lives(): number {
    return this.#epochs.size;
  }

  /** Whether the store had it all the time since a moment. */
  presentSince(moment: number): boolean {
    return this.#presentSince !== undefined && this.#presentSince <= moment;
  }

  /** For how long the store has not had it, in milliseconds; 0 while it has. */
  get absentMs(): number {
    return this.present ? 0 : this.#now() - this.#lostAt;
  }

  /** For how long somebody may have missed it, who asked for it now and then. */
  get missedMs(): number {
    const back = this.present && this.#backAt < this.#now();
    return back ? 0 : this.#now() - this.#missedSince;
  }

  /** The newest revision there was, whether or not the store still has it. */
  get head(): Cursor | undefined {
    if (this.#latest === undefined) return undefined;
    return { epoch: this.#latest, revision: this.#epochs.get(this.#latest)?.length ?? 0 };
  }

  /** The head of an earlier life. */
  get former(): Cursor | undefined {
    for (const [epoch, { length }] of this.#epochs) {
      if (epoch !== this.#latest) return { epoch, revision: length };
    }
    return undefined;
  }

  isHead(cursor: Cursor | null): boolean {
    const { head } = this;
    return head !== undefined && head.epoch === cursor?.epoch && head.revision === cursor.revision;
  }

  /** Whether there is such a place; revision 0 is what the epoch began with. */
  has({ epoch, revision }: Cursor): boolean {
    return revision >= 0 && revision <= (this.#epochs.get(epoch)?.length ?? -1);
  }

  /** Whether the job is over at this place. */
  endsAt(cursor: Cursor | null): boolean {
    const { epoch = "", revision = 0 } = cursor ?? {};
    if (revision === 0) return this.#over.has(epoch);
    return this.#epochs.get(epoch)?.[revision - 1]?.ends === true;
  }

  /** The event that led to a revision, as it stands in the log. */
  eventAt({ epoch, revision }: Cursor): string | undefined {
    return this.#epochs.get(epoch)?.[revision - 1]?.event;
  }

  /** Whether history has to reach from one place to another, with so many bytes of it kept, and what is younger. */
  mustReach(from: Cursor, to: Cursor, historyBytes: number, keepMs: number): boolean {
    const missed = this.#epochs.get(from.epoch)?.slice(from.revision, to.revision) ?? [];
    const bytes = missed.reduce((sum, entry) => sum + entry.bytes, 0);
    if (bytes <= historyBytes) return true;
    const young = missed.every(({ at }) => at > this.#now() - keepMs);
    return young && bytes < 7 * historyBytes;
  }
}

/** The cursor that a frame names; throws if it is none. */
export function cursorOf(text: string): Cursor {
  const cursor = parseCursor(text);
  if (!cursor) throw new Error(`${text} is no cursor`);
  return cursor;
}
