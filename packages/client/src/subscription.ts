import {
  applyPatch,
  type Cursor,
  type Frame,
  type JobSnapshot,
  parseCursor,
  printCursor,
  type WorkflowEvent,
} from "@org/workflow-monitor/protocol";
import type { MonitorClientError } from "./errors.js";
import type { Host } from "./host.js";
import { FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS } from "./line.js";

/** One who watches the job of a subscription. */
export interface Viewer {
  /** New events, if any, with the cursors after them, and the state then. `resumed`: none is missing before. */
  changed(job: JobSnapshot, events: readonly [WorkflowEvent, Cursor][], resumed: boolean): void;
  ended(job: JobSnapshot): void;
  failed(error: MonitorClientError): void;
  /** How it is connected may have changed. */
  connected(): void;
}

/** What a subscription needs of the line. */
export interface Carrier {
  readonly host: Host;
  /** Watches the job from the subscription's cursor on, if there is a link. */
  ask(subscription: Subscription): void;
  /** Nothing more is wanted of it. */
  drop(subscription: Subscription): void;
}

/** A page may open before the worker's first event: that long, an unknown job is only not there yet. */
const UNKNOWN_MS = 15_000;
const LONGEST_UNKNOWN_MS = 2_000;

/**
 * What this client knows of one job: a cursor into its log, and the state there. Frames may come over
 * any link, twice, or late; what is not newer is dropped. All watches of the job share it.
 */
export class Subscription {
  readonly jobId: string;
  readonly viewers = new Set<Viewer>();
  job: JobSnapshot | null = null;
  /** A link has told the state. */
  answered = false;
  /** Why no link carries this job now, and when they are asked again. */
  refusal: { cause: MonitorClientError; retryAt: number } | null = null;
  readonly #carrier: Carrier;
  readonly #since: number;
  /** Epochs that are over: nothing of them is new. */
  readonly #left = new Set<string>();
  #cursor: Cursor | undefined;
  #refusals = 0;
  #cancelRetry = () => {};
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

  /** The viewer goes. With the last one the subscription does, but not at once: who closes a watch often begins another. */
  leave(viewer: Viewer): void {
    const { viewers } = this;
    viewers.delete(viewer);
    if (!viewers.size) this.#carrier.host.setTimeout(() => viewers.size || this.close(), 0);
  }

  /** There is another link: it has not told anything yet. */
  unanswer(): void {
    this.#cancelRetry();
    this.refusal = null;
    this.answered = false;
  }

  connected(): void {
    for (const viewer of this.viewers) viewer.connected();
  }

  /** What a link says of the job. */
  take(frame: Frame): void {
    const at = "cursor" in frame && parseCursor(frame.cursor);
    if (!at || this.#over || this.#left.has(at.epoch)) return;
    const here = this.#cursor;
    const sameLog = here?.epoch === at.epoch;
    /** Revisions from here to there. */
    const ahead = sameLog ? at.revision - here.revision : Number.NaN;

    if (frame.type === "snapshot") {
      this.unanswer();
      this.answered = true;
      this.#refusals = 0;
      if (this.job && ahead <= 0) return this.connected(); // nothing new, as is known now
      if (here && !sameLog) this.#left.add(here.epoch);
      const resumed = frame.resumed && sameLog;
      this.#show(
        frame.job,
        at,
        resumed ? frame.events.slice(-ahead || frame.events.length) : [],
        resumed,
      );
      return this.connected();
    }
    if (ahead < 0 || (ahead === 0 && frame.type === "update")) return;
    const { job } = this;
    if (frame.type === "update") {
      const next = frame.job ?? (job && frame.patch && applyPatch(job, frame.patch));
      if (ahead === 1 && next) return this.#show(next, at, [frame.event], true);
    } else if (ahead === 0 && job) {
      this.close();
      for (const viewer of this.viewers) viewer.ended(job);
      return;
    }
    // Something is missing before it. Until the answer, nothing leads on.
    if (this.answered) this.#ask();
  }

  #ask(): void {
    this.unanswer();
    this.#carrier.ask(this);
    this.connected();
  }

  /** The i-th of n events belongs to revision head − n + i. */
  #show(job: JobSnapshot, at: Cursor, events: readonly WorkflowEvent[], resumed: boolean): void {
    this.#cursor = at;
    this.job = job;
    const { epoch, revision } = at;
    const first = revision - events.length + 1;
    const placed = events.map((event, i): [WorkflowEvent, Cursor] => [
      event,
      { epoch, revision: first + i },
    ]);
    for (const viewer of this.viewers) viewer.changed(job, placed, resumed);
  }

  /** The server does not let this job be watched: now, or at all. */
  refuse(error: MonitorClientError): void {
    const { host } = this.#carrier;
    const age = host.now() - this.#since;
    const mayCome = error.code === "unknown_job" && !this.job && age < UNKNOWN_MS;
    if (!mayCome && !error.retryable) return this.fail(error);
    const longest = mayCome ? LONGEST_UNKNOWN_MS : LONGEST_BACKOFF_MS;
    const ceiling = Math.min(longest, FIRST_BACKOFF_MS * 2 ** this.#refusals);
    const ms = (error.retryAfterMs ?? 0) + ceiling * host.random();
    this.unanswer();
    this.#refusals += 1;
    this.refusal = { cause: error, retryAt: host.now() + ms };
    this.#cancelRetry = host.setTimeout(() => this.#ask(), ms);
    this.connected();
  }

  fail(error: MonitorClientError): void {
    if (this.#over) return;
    this.close();
    for (const viewer of this.viewers) viewer.failed(error);
  }

  /** Nothing more is wanted. Idempotent. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelRetry();
    this.#carrier.drop(this);
  }
}
