import { createHash } from "node:crypto";
import { type Cursor, parseCursor, printCursor } from "../revision.js";
import type { JobSnapshot } from "../snapshot.js";
import type { Status } from "../status.js";

/** What an event is recognised by, as it was published and as viewers get it. */
export interface EventIdentity {
  type: string;
  stage?: string;
  id?: string;
  message?: string | null;
}

/** A hash of some bytes, and who got them first. */
interface Seen {
  hash: number;
  by: string;
}

type Part = "event" | "job" | "patch";

/** What is known of one revision. Hashes, no texts: a soak sees millions. */
interface KnownRevision extends Partial<Record<Part, Seen>> {
  /** Of the event that viewers got. */
  identity?: number;
  /** Of the events whose publishes were acknowledged at this revision. */
  acknowledged?: Set<number>;
  /** One of them was recorded without its event: it may be anything. */
  anonymous?: true;
  /** Null: the job is not readable, or has another shape (SPEC R16). */
  state?: ObservedState | null;
}

/** What the end of a watch is compared with. */
interface ObservedState {
  status: Status;
  done: boolean;
  run: number;
}

/** Who "saw" the job that `head` was called with. */
const HEAD = "the store's head";

class Epoch {
  readonly revisions = new Map<number, KnownRevision>();
  /** The greatest revision that a publish was acknowledged at; 0: none was. */
  acknowledged = 0;
  /** The greatest one that a viewer was brought to. */
  seen = { revision: 0, by: "" };

  at(revision: number): KnownRevision {
    let known = this.revisions.get(revision);
    if (!known) {
      known = {};
      this.revisions.set(revision, known);
    }
    return known;
  }
}

/** 48 bits: two texts that differ have one hash once in 10¹⁴ times. */
const hash = (text: string): number => createHash("sha1").update(text).digest().readUIntBE(0, 6);

/** The start of a message is enough: a long one is shortened on its way (SPEC R13). */
const identify = ({ type, stage, id, message }: EventIdentity): number =>
  hash(JSON.stringify([type, stage ?? null, id ?? null, message?.slice(0, 100) ?? null]));

/** What is known of one job's log: what publishers were told, and what viewers got, whoever they are. */
export class ObservedLog {
  readonly jobId: string;
  /** Publishes of which nobody knows whether they are stored: each may have made one revision. */
  readonly indeterminate = { count: 0, anonymous: false, events: new Set<number>() };
  readonly #report: (violation: string) => void;
  readonly #epochs = new Map<string, Epoch>();
  #latest: string | undefined;
  #acknowledgedAny = false;
  #head: Cursor | undefined;
  /** The last job that was parsed: viewers of one revision share it. */
  #parsed: { hash: number; job: JobSnapshot } | undefined;

  constructor(jobId: string, report: (violation: string) => void) {
    this.jobId = jobId;
    this.#report = report;
  }

  report(by: string, cursor: Cursor | null, what: string): void {
    this.#report(this.say(by, cursor, what));
  }

  say(by: string, cursor: Cursor | null, what: string): string {
    return `${by}, job ${this.jobId}, ${cursor ? printCursor(cursor) : "no cursor"}: ${what}`;
  }

  // ── what is known to be there ──────────────────────────────────────────────────────────────────

  acknowledge(cursor: Cursor, event: EventIdentity | undefined): void {
    const epoch = this.#epoch(cursor);
    epoch.acknowledged = Math.max(epoch.acknowledged, cursor.revision);
    this.#latest = cursor.epoch;
    this.#acknowledgedAny = true;
    const known = epoch.at(cursor.revision);
    if (!event) known.anonymous = true;
    else {
      known.acknowledged ??= new Set();
      known.acknowledged.add(identify(event));
    }
  }

  /** Nobody knows whether, and where, this was stored. */
  doubt(event: EventIdentity | undefined): void {
    this.indeterminate.count += 1;
    if (event) this.indeterminate.events.add(identify(event));
    else this.indeterminate.anonymous = true;
  }

  /** The store's last word. */
  setHead(cursor: Cursor, job: JobSnapshot | undefined): void {
    this.#head = cursor;
    if (job) this.sawJob(cursor, JSON.stringify(job), HEAD);
  }

  // ── what viewers get ───────────────────────────────────────────────────────────────────────────

  sawEvent(cursor: Cursor, text: string, by: string): void {
    const known = this.#saw("event", cursor, hash(text), by);
    if (known.identity !== undefined) return;
    try {
      known.identity = identify(JSON.parse(text) as EventIdentity);
    } catch {
      this.report(by, cursor, "the event is not JSON");
    }
  }

  sawPatch(cursor: Cursor, text: string, by: string): void {
    this.#saw("patch", cursor, hash(text), by);
  }

  /** Returns the hash of the job's bytes. */
  sawJob(cursor: Cursor, text: string, by: string): number {
    const textHash = hash(text);
    const known = this.#saw("job", cursor, textHash, by);
    if (known.state !== undefined) return textHash;
    known.state = null;
    try {
      known.state = this.#stateOf(this.parse(textHash, text), cursor, by);
    } catch {
      this.report(by, cursor, "the job is not JSON");
    }
    return textHash;
  }

  #stateOf(job: Partial<JobSnapshot> | null, cursor: Cursor, by: string): ObservedState | null {
    const { epoch, revision, status, done, run } = job ?? {};
    const own = `${epoch}.${revision}`;
    if (!parseCursor(own) || status === undefined || run === undefined) return null;
    if (own !== printCursor(cursor)) this.report(by, cursor, `the job says that it is ${own}`);
    return { status, done: done === true, run };
  }

  /** The job of a text whose hash is known; most viewers get the one that was parsed last. */
  parse(textHash: number, text: string): JobSnapshot {
    if (this.#parsed?.hash !== textHash) {
      this.#parsed = { hash: textHash, job: JSON.parse(text) as JobSnapshot };
    }
    return this.#parsed.job;
  }

  stateAt({ epoch, revision }: Cursor): ObservedState | undefined {
    return this.#epochs.get(epoch)?.revisions.get(revision)?.state ?? undefined;
  }

  /** One revision, one text: the same bytes for everybody, on every transport. */
  #saw(part: Part, cursor: Cursor, textHash: number, by: string): KnownRevision {
    const epoch = this.#epoch(cursor);
    this.#latest ??= cursor.epoch;
    if (cursor.revision > epoch.seen.revision && by !== HEAD) {
      epoch.seen = { revision: cursor.revision, by };
    }
    const known = epoch.at(cursor.revision);
    known[part] ??= { hash: textHash, by };
    if (known[part].hash !== textHash) {
      this.report(by, cursor, `the ${part} has other bytes than ${known[part].by} got`);
    }
    return known;
  }

  #epoch({ epoch }: Cursor): Epoch {
    let known = this.#epochs.get(epoch);
    if (!known) {
      known = new Epoch();
      this.#epochs.set(epoch, known);
    }
    return known;
  }

  // ── the end ────────────────────────────────────────────────────────────────────────────────────

  /** Where every viewer has to arrive: the head as it was told, else the greatest revision known. */
  get head(): Cursor | undefined {
    if (this.#head || this.#latest === undefined) return this.#head;
    const { acknowledged, seen } = this.#epochs.get(this.#latest) as Epoch;
    return { epoch: this.#latest, revision: Math.max(acknowledged, seen.revision) };
  }

  /** The greatest revision of an epoch whose publish was acknowledged; 0: none. */
  acknowledgedIn(epoch: string): number {
    return this.#epochs.get(epoch)?.acknowledged ?? 0;
  }

  /** What does not fit together now that everything is recorded. */
  finish(): string[] {
    const found: string[] = [];
    if (!this.#acknowledgedAny && !this.#head && this.indeterminate.count === 0 && this.#latest) {
      return [`job ${this.jobId} was seen, but nothing is recorded as published`];
    }
    for (const [name, epoch] of this.#epochs) {
      const { acknowledged, seen } = epoch;
      const told = this.#head?.epoch === name ? this.#head.revision : undefined;
      if (told !== undefined && acknowledged > told) {
        const cursor = { epoch: name, revision: acknowledged };
        found.push(this.say("publisher", cursor, `acknowledged, but the head is ${name}.${told}`));
      }
      const most = told ?? acknowledged + this.indeterminate.count + this.#elsewhere(name, epoch);
      if (seen.revision > most) {
        const cursor = { epoch: name, revision: seen.revision };
        found.push(this.say(seen.by, cursor, `seen, but only ${name}.${most} was published`));
      }
      if (!this.indeterminate.anonymous) found.push(...this.#foreignEvents(name, epoch));
    }
    return found;
  }

  /**
   * How many revisions beyond the last one acknowledged in an epoch were acknowledged in another: the
   * store had them, and lost the log before it could tell their publisher, who said them again.
   */
  #elsewhere(name: string, { revisions, acknowledged }: Epoch): number {
    if (this.#epochs.size === 1) return 0;
    const elsewhere = this.#acknowledgedOutside(name);
    let count = 0;
    for (const [revision, { identity }] of revisions) {
      if (revision <= acknowledged) continue;
      // Nobody saw the event of some: those who came to it skipped it.
      if (identity === undefined || elsewhere.has(identity)) count += 1;
    }
    return count;
  }

  #acknowledgedOutside(name: string): Set<number> {
    const found = new Set<number>();
    for (const [other, { revisions }] of this.#epochs) {
      if (other === name) continue;
      for (const { acknowledged } of revisions.values())
        for (const identity of acknowledged ?? []) found.add(identity);
    }
    return found;
  }

  /** Events that nobody published where they were seen. */
  #foreignEvents(name: string, { revisions }: Epoch): string[] {
    const found: string[] = [];
    const elsewhere = this.#acknowledgedOutside(name);
    for (const [revision, { event, identity, acknowledged, anonymous }] of revisions) {
      if (!event || identity === undefined || !acknowledged || anonymous) continue;
      if (acknowledged.has(identity) || this.indeterminate.events.has(identity)) continue;
      if (elsewhere.has(identity)) continue;
      const what = "the event is none of those that were acknowledged here";
      found.push(this.say(event.by, { epoch: name, revision }, what));
    }
    return found;
  }
}
