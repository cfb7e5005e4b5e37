import {
  type Cursor,
  type JobSnapshot,
  printCursor,
  type WorkflowEvent,
} from "@org/workflow-monitor/protocol";
import type { Connector } from "./connector.js";
import { MonitorClientError } from "./errors.js";
import type { Subscription, Viewer } from "./subscription.js";
import type { Connection, JobWatch, WatchListeners } from "./types.js";

const isSame = (one: Connection, other: Connection): boolean =>
  (Object.keys(one) as (keyof Connection)[]).every((key) => one[key] === other[key]);

/** One viewer's view of a subscription. */
export class Watch implements JobWatch, Viewer {
  readonly jobId: string;
  snapshot: JobSnapshot | null = null;
  readonly #subscription: Subscription;
  readonly #connector: Connector;
  #listeners: readonly (readonly [event: string, listener: (...args: never[]) => void])[] = [];
  #connection: Connection;
  #outcome: JobSnapshot | MonitorClientError | null = null;
  /** Of loops and promises that wait for something new. */
  #wakers: (() => void)[] = [];

  constructor(subscription: Subscription, connector: Connector) {
    this.jobId = subscription.jobId;
    this.#subscription = subscription;
    this.#connector = connector;
    this.#connection = connector.connectionOf(subscription);
    // What is known already is shown to listeners that are added in this turn.
    queueMicrotask(() => {
      const { job } = subscription;
      if (job && !this.snapshot) this.changed(job, [], false);
    });
  }

  /** The same object until something about it changes. */
  get connection(): Connection {
    const now = this.#connector.connectionOf(this.#subscription);
    if (!this.#outcome && !isSame(now, this.#connection)) this.#connection = now;
    return this.#connection;
  }

  on<E extends keyof WatchListeners>(event: E, listener: WatchListeners[E]): () => void {
    const entry = [event, listener] as const;
    this.#listeners = [...this.#listeners, entry];
    return () => {
      this.#listeners = this.#listeners.filter((each) => each !== entry);
    };
  }

  #tell<E extends keyof WatchListeners>(event: E, ...args: Parameters<WatchListeners[E]>): void {
    for (const [name, listener] of this.#listeners) {
      try {
        if (name === event) listener(...(args as unknown[] as never[]));
      } catch (error) {
        // Uncaught, as with the platform's events, and in nobody's way.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  #wake(): void {
    const wakers = this.#wakers;
    this.#wakers = [];
    for (const wake of wakers) wake();
  }

  // ── what its subscription tells: Viewer ────────────────────────────────────────────────────────

  changed(job: JobSnapshot, events: readonly [WorkflowEvent, Cursor][], resumed: boolean): void {
    if (this.#outcome) return;
    this.snapshot = job;
    for (const [event, at] of events) {
      // A listener may have closed it.
      if (!this.#outcome) this.#tell("event", event, { cursor: printCursor(at) });
    }
    if (!this.#outcome) this.#tell("change", job, { resumed });
    this.#wake();
  }

  ended(job: JobSnapshot): void {
    if (this.#end(job)) this.#tell("done", job);
  }

  failed(error: MonitorClientError): void {
    this.#end(error);
  }

  connected(): void {
    const before = this.#connection;
    if (this.connection !== before) this.#tell("connection", this.connection);
  }

  #end(outcome: JobSnapshot | MonitorClientError): boolean {
    if (this.#outcome) return false;
    this.#outcome = outcome;
    const cause = outcome instanceof MonitorClientError ? outcome : null;
    const state = cause ? "failed" : "ended";
    this.#connection = { state, transport: null, cause, retryAt: null, stale: false };
    this.#subscription.leave(this);
    this.#tell("connection", this.#connection);
    this.#wake();
    return true;
  }

  // ── what its user does ─────────────────────────────────────────────────────────────────────────

  async finished(): Promise<JobSnapshot> {
    while (!this.#outcome) await this.#news();
    if (this.#outcome instanceof MonitorClientError) throw this.#outcome;
    return this.#outcome;
  }

  #news(): Promise<void> {
    return new Promise((resolve) => {
      this.#wakers.push(resolve);
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<JobSnapshot, void> {
    let shown: JobSnapshot | null = null;
    try {
      for (;;) {
        const outcome = this.#outcome;
        if (this.snapshot !== shown) {
          shown = this.snapshot;
          if (shown) yield shown;
        } else if (!outcome) await this.#news();
        else if (outcome instanceof MonitorClientError && outcome.code !== "closed") throw outcome;
        else return;
      }
    } finally {
      this.close();
    }
  }

  close(): void {
    this.#end(
      new MonitorClientError("closed", "The watch was closed before the job was over.", this),
    );
  }
}
