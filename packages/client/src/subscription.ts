import {
  applyPatch,
  type Cursor,
  type Frame,
  type JobSnapshot,
  parseCursor,
  printCursor,
  type SnapshotFrame,
  type UpdateFrame,
  type WorkflowEvent,
} from "@org/workflow-monitor/protocol";
import type { MonitorClientError } from "./errors.js";
import type { Host } from "./host.js";
import { badAnswer } from "./link.js";

/** An event, and the cursor after it. */
export interface Happened {
  event: WorkflowEvent;
  at: Cursor;
}

/** One who watches the job of a subscription. */
export interface Viewer {
  /** New events, if any, and the state after them. `resumed`: none is missing between. */
  changed(job: JobSnapshot, events: readonly Happened[], resumed: boolean): void;
  ended(job: JobSnapshot): void;
  failed(error: MonitorClientError): void;
  /** How it is connected has changed. */
  connected(): void;
}

/** What a subscription needs of the line. */
export interface Carrier {
  readonly host: Host;
  /** Watches the job from the subscription's cursor on, if there is a link. */
  restart(subscription: Subscription): void;
  /** Nothing more is wanted of it. */
  drop(subscription: Subscription): void;
}

/** A page may open before the worker's first event: that long, an unknown job is only not there yet. */
const UNKNOWN_MS = 15_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 20_000;

/**
 * What this client knows of one job: a cursor into its log, and the state there. Frames may come over
 * any link, twice, or late; what is not newer is dropped. All watches of the job share it.
 */
export class Subscription {
  readonly jobId: string;
  readonly viewers = new Set<Viewer>();
  readonly #carrier: Carrier;
  readonly #since: number;
  /** Epochs that are over: nothing of them is new. */
  readonly #left = new Set<string>();
  #cursor: Cursor | undefined;
  #job: JobSnapshot | null = null;
  /** The present link has told the state. */
  #answered = false;
  /** Why the link does not carry this job now, and when it is asked again. */
  #refusal: { error: MonitorClientError; retryAt: number } | null = null;
  #refusals = 0;
  #cancelRetry: () => void = () => {};
  #over = false;

  constructor(carrier: Carrier, jobId: string, after: Cursor | undefined) {
    this.#carrier = carrier;
    this.jobId = jobId;
    this.#cursor = after;
    this.#since = carrier.host.now();
  }

  get cursor(): string | undefined {
    return this.#cursor && printCursor(this.#cursor);
  }

  get job(): JobSnapshot | null {
    return this.#job;
  }

  get answered(): boolean {
    return this.#answered;
  }

  get refusal(): { error: MonitorClientError; retryAt: number } | null {
    return this.#refusal;
  }

  /** It has ended or failed. */
  get over(): boolean {
    return this.#over;
  }

  /** There is another link: it has not told anything yet. */
  unanswer(): void {
    this.#answered = false;
    this.#cancelRetry();
    this.#refusal = null;
  }

  take(frame: Frame): void {
    if (this.#over) return;
    if (frame.type === "snapshot") this.#takeSnapshot(frame, cursorOf(frame));
    else if (frame.type === "update") this.#takeUpdate(frame, cursorOf(frame));
    else if (frame.type === "end") this.#takeEnd(cursorOf(frame));
  }

  #takeSnapshot(frame: SnapshotFrame, at: Cursor): void {
    if (this.#left.has(at.epoch)) return;
    const before = this.#cursor;
    const wasAnswered = this.#answered;
    this.#answered = true;
    this.#refusal = null;
    this.#refusals = 0;
    const sameLog = before?.epoch === at.epoch;
    if (sameLog && this.#job && at.revision <= before.revision) {
      // Nothing new, but it is known that there is nothing.
      if (!wasAnswered) for (const viewer of this.viewers) viewer.connected();
      return;
    }
    if (before && !sameLog) this.#left.add(before.epoch);
    const resumed = frame.resumed && sameLog;
    const events = resumed ? eventsAfter(frame, at, before.revision) : [];
    this.#show(frame.job, at, events, resumed);
    if (!wasAnswered) for (const viewer of this.viewers) viewer.connected();
  }

  #takeUpdate({ event, job, patch }: UpdateFrame, at: Cursor): void {
    const before = this.#cursor;
    if (!before || this.#left.has(at.epoch)) return;
    if (at.epoch === before.epoch && at.revision <= before.revision) return;
    const follows = at.epoch === before.epoch && at.revision === before.revision + 1;
    const next = job ?? (this.#job && patch && applyPatch(this.#job, patch));
    // Not what a server sends: ask anew, from the cursor on. Until the answer, updates lead nowhere.
    if (!follows || !next) return this.#restart();
    this.#show(next, at, [{ event, at }], true);
  }

  #restart(): void {
    if (!this.#answered) return;
    this.#answered = false;
    this.#carrier.restart(this);
  }

  #show(job: JobSnapshot, at: Cursor, events: readonly Happened[], resumed: boolean): void {
    this.#cursor = at;
    this.#job = job;
    for (const viewer of this.viewers) viewer.changed(job, events, resumed);
  }

  #takeEnd(at: Cursor): void {
    const here = this.#cursor;
    if (!here || this.#left.has(at.epoch)) return;
    if (at.epoch !== here.epoch || at.revision > here.revision || !this.#job) {
      return this.#restart(); // the last updates are missing
    }
    if (at.revision < here.revision) return; // of a run before
    const job = this.#job;
    this.#finish();
    for (const viewer of this.viewers) viewer.ended(job);
  }

  /** The server does not let this job be watched: now, or at all. */
  refuse(error: MonitorClientError): void {
    if (this.#over) return;
    const { host } = this.#carrier;
    const mayCome =
      error.code === "unknown_job" && !this.#job && host.now() - this.#since < UNKNOWN_MS;
    if (!mayCome && !error.retryable) return this.fail(error);
    const ceiling = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#refusals);
    // An unknown job is asked for every second or two: somebody waits for its first event.
    const ms =
      (error.retryAfterMs ?? 0) + Math.min(ceiling, mayCome ? 2_000 : ceiling) * host.random();
    this.#refusals += 1;
    this.#answered = false;
    this.#refusal = { error, retryAt: host.now() + ms };
    this.#cancelRetry();
    this.#cancelRetry = host.setTimeout(() => {
      this.#refusal = null;
      this.#carrier.restart(this);
      for (const viewer of this.viewers) viewer.connected();
    }, ms);
    for (const viewer of this.viewers) viewer.connected();
  }

  fail(error: MonitorClientError): void {
    if (this.#over) return;
    this.#finish();
    for (const viewer of this.viewers) viewer.failed(error);
  }

  #finish(): void {
    this.#over = true;
    this.#cancelRetry();
    this.#carrier.drop(this);
  }

  /** Nobody watches any more. */
  close(): void {
    if (!this.#over) this.#finish();
  }
}

function cursorOf({ cursor }: { cursor: unknown }): Cursor {
  const at = parseCursor(cursor);
  if (!at) throw badAnswer("The server sent a frame without a cursor: is it a workflow monitor?");
  return at;
}

/** The i-th of n events belongs to revision head − n + i: those after `revision`. */
export function eventsAfter(
  { events }: SnapshotFrame,
  at: Cursor,
  revision: number,
): readonly Happened[] {
  const first = at.revision - events.length + 1;
  return events
    .map((event, i) => ({ event, at: { epoch: at.epoch, revision: first + i } }))
    .filter((happened) => happened.at.revision > revision);
}
