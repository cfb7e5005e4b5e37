import { type Cursor, type JobSnapshot, printCursor } from "@org/workflow-monitor/protocol";
import { MonitorClientError } from "./errors.js";
import { call } from "./host.js";
import type { Happened, Viewer } from "./subscription.js";
import type { Connection, JobWatch, WatchListeners } from "./types.js";

/** Where a watch gets its job from. */
export interface Source {
  readonly job: JobSnapshot | null;
  readonly connection: Connection;
  /** The watch is over, or not wanted any more. */
  leave(watch: Watch): void;
}

const isSame = (one: Connection, other: Connection): boolean =>
  one.state === other.state &&
  one.transport === other.transport &&
  one.cause === other.cause &&
  one.retryAt === other.retryAt &&
  one.stale === other.stale;

/**
 * One viewer's view of a subscription. It begins in step with it; one that asked for events before
 * those that the subscription has shown keeps new ones back until the old ones are there.
 */
export class Watch implements JobWatch, Viewer {
  readonly jobId: string;
  readonly #source: Source;
  readonly #listeners: { [E in keyof WatchListeners]: Set<WatchListeners[E]> } = {
    change: new Set(),
    event: new Set(),
    done: new Set(),
    connection: new Set(),
  };
  #job: JobSnapshot | null = null;
  /** What came while older events are being read; null when in step. */
  #kept: Happened[] | null = null;
  #endsWith: JobSnapshot | null = null;
  #outcome: { job: JobSnapshot } | { error: MonitorClientError } | null = null;
  #connection: Connection;
  /** Of loops that wait for something new. */
  readonly #wakers = new Set<() => void>();

  constructor(jobId: string, source: Source) {
    this.jobId = jobId;
    this.#source = source;
    this.#connection = source.connection;
  }

  get snapshot(): JobSnapshot | null {
    return this.#job;
  }

  /** The same object until something about it changes. */
  get connection(): Connection {
    const now = this.#outcome ? this.#connection : this.#source.connection;
    if (!isSame(now, this.#connection)) this.#connection = now;
    return this.#connection;
  }

  on<E extends keyof WatchListeners>(event: E, listener: WatchListeners[E]): () => void {
    const listeners: Set<WatchListeners[E]> = this.#listeners[event];
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  #tell<E extends keyof WatchListeners>(event: E, ...args: Parameters<WatchListeners[E]>): void {
    for (const listener of [...this.#listeners[event]]) call<E>(listener, ...args);
    const wakers = [...this.#wakers];
    this.#wakers.clear();
    for (const wake of wakers) wake();
  }

  // ── what its subscription tells: Viewer ────────────────────────────────────────────────────────

  changed(job: JobSnapshot, events: readonly Happened[], resumed: boolean): void {
    if (this.#kept) {
      this.#kept.push(...events);
      return;
    }
    this.#show(job, events, resumed);
  }

  #show(job: JobSnapshot, events: readonly Happened[], resumed: boolean): void {
    this.#job = job;
    for (const { event, at } of events) {
      if (this.#outcome) return; // closed by a listener
      this.#tell("event", event, { cursor: printCursor(at) });
    }
    if (!this.#outcome) this.#tell("change", job, { resumed });
  }

  ended(job: JobSnapshot): void {
    this.#endsWith = job;
    if (this.#kept || this.#outcome) return; // `catchUp` comes first
    this.#end({ job }, "ended", null);
    this.#tell("done", job);
  }

  failed(error: MonitorClientError): void {
    if (this.#outcome) return;
    this.#end({ error }, "failed", error);
  }

  connected(): void {
    const before = this.#connection;
    if (this.connection !== before) this.#tell("connection", this.connection);
  }

  #end(
    outcome: { job: JobSnapshot } | { error: MonitorClientError },
    state: "ended" | "failed",
    cause: MonitorClientError | null,
  ): void {
    this.#outcome = outcome;
    this.#connection = { state, transport: null, cause, retryAt: null, stale: false };
    this.#source.leave(this);
    this.#tell("connection", this.#connection);
  }

  // ── beginning ──────────────────────────────────────────────────────────────────────────────────

  /** Shows what is known already, to listeners that are added in this turn. */
  begin(): void {
    queueMicrotask(() => {
      const { job } = this.#source;
      if (job && !this.#job && !this.#outcome && !this.#kept) this.#show(job, [], false);
    });
  }

  /** Keeps back what comes until `events`, those from an older cursor on, are here; `resumed` false: they cannot be had. */
  async catchUp(
    reading: Promise<{ events: readonly Happened[]; resumed: boolean }>,
  ): Promise<void> {
    this.#kept = [];
    const { events, resumed } = await reading;
    const kept = this.#kept;
    this.#kept = null;
    if (this.#outcome) return;
    const { job } = this.#source;
    if (!job) return;
    const head: Cursor = job;
    const known = new Set(events.map(({ at }) => at.revision));
    const all = [...events, ...kept.filter(({ at }) => !known.has(at.revision))];
    const shown = all.filter(({ at }) => at.epoch === head.epoch && at.revision <= head.revision);
    this.#show(job, resumed ? shown : [], resumed);
    if (this.#endsWith) this.ended(this.#endsWith);
  }

  // ── what its user does ─────────────────────────────────────────────────────────────────────────

  finished(): Promise<JobSnapshot> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const outcome = this.#outcome;
        if (!outcome) this.#wakers.add(look);
        else if ("job" in outcome) resolve(outcome.job);
        else reject(outcome.error);
      };
      look();
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<JobSnapshot, void> {
    let shown: JobSnapshot | null = null;
    try {
      for (;;) {
        if (this.#job !== shown) {
          shown = this.#job;
          if (shown) yield shown;
        } else if (this.#outcome) {
          if ("error" in this.#outcome && this.#outcome.error.code !== "closed") {
            throw this.#outcome.error;
          }
          return;
        } else await new Promise<void>((resolve) => this.#wakers.add(resolve));
      }
    } finally {
      this.close();
    }
  }

  close(): void {
    if (this.#outcome) return;
    const message = "The watch was closed before the job was over.";
    const error = new MonitorClientError("closed", message, { jobId: this.jobId });
    this.#end({ error }, "failed", error);
  }
}
