import type { JobSnapshot } from "@org/workflow-monitor/protocol";
import type { Connector } from "./connector.js";
import { closedError, MonitorClientError } from "./errors.js";
import type { Subscription, Viewer } from "./subscription.js";
import type { Connection, JobWatch, WatchListeners } from "./types.js";

const isSame = (one: Connection, other: Connection): boolean =>
  (Object.keys(one) as (keyof Connection)[]).every((key) => one[key] === other[key]);

/** One viewer's view of a subscription. */
export function createWatch(
  subscription: Subscription,
  { connectionOf }: Connector,
): JobWatch & Viewer {
  let listeners: readonly (readonly [event: string, listener: (...args: never[]) => void])[] = [];
  let snapshot: JobSnapshot | null = null;
  let connection = connectionOf(subscription);
  let outcome: JobSnapshot | MonitorClientError | null = null;
  /** Of loops and promises that wait for something new. */
  let wakers: (() => void)[] = [];

  const news = () => new Promise<void>((resolve) => wakers.push(resolve));

  function wake(): void {
    const waiting = wakers;
    wakers = [];
    for (const each of waiting) each();
  }

  function tell<E extends keyof WatchListeners>(
    event: E,
    ...args: Parameters<WatchListeners[E]>
  ): void {
    for (const entry of listeners) {
      const [name, listener] = entry;
      // One before it may have ended it, or the watch.
      if (name !== event || !listeners.includes(entry)) continue;
      try {
        listener(...(args as unknown[] as never[]));
      } catch (error) {
        // Uncaught, as with the platform's events, and in nobody's way.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  function changed(...[job, events, resumed]: Parameters<Viewer["changed"]>): void {
    if (outcome) return;
    snapshot = job;
    for (const [cursor, event] of events) tell("event", event, { cursor });
    tell("change", job, { resumed });
    wake();
  }

  /** The same object until something about it changes. */
  function connectionNow(): Connection {
    const now = connectionOf(subscription);
    if (!outcome && !isSame(now, connection)) connection = now;
    return connection;
  }

  function ended(how: JobSnapshot | MonitorClientError): void {
    if (outcome) return;
    outcome = how;
    const cause = how instanceof MonitorClientError ? how : null;
    connection = {
      state: cause ? "failed" : "ended",
      transport: null,
      cause,
      retryAt: null,
      stale: false,
    };
    subscription.leave(watch);
    tell("connection", connection);
    if (!cause) tell("done", how as JobSnapshot);
    listeners = []; // nothing follows
    wake();
  }

  const close = () => ended(closedError());

  // What is known already is shown to listeners that are added in this turn.
  queueMicrotask(() => {
    const { job } = subscription;
    if (job && !snapshot) changed(job, [], false);
  });

  const watch: JobWatch & Viewer = {
    jobId: subscription.jobId,
    get snapshot() {
      return snapshot;
    },
    get connection() {
      return connectionNow();
    },
    on(event, listener) {
      const entry = [event, listener] as const;
      listeners = [...listeners, entry];
      return () => {
        listeners = listeners.filter((each) => each !== entry);
      };
    },
    async finished() {
      while (!outcome) await news();
      if (outcome instanceof MonitorClientError) throw outcome;
      return outcome;
    },
    // No generator: one that waits for something new would hear only then that its loop is left.
    [Symbol.asyncIterator]() {
      let shown: JobSnapshot | null = null;
      const over = { done: true, value: undefined } as const;
      return {
        async next() {
          while (snapshot === shown && !outcome) await news();
          if (snapshot !== shown) {
            shown = snapshot;
            return { done: false, value: snapshot as JobSnapshot };
          }
          if (outcome instanceof MonitorClientError && outcome.code !== "closed") throw outcome;
          return over;
        },
        async return() {
          close();
          return over;
        },
      };
    },
    close,
    changed,
    connected() {
      const before = connection;
      if (connectionNow() !== before) tell("connection", connection);
    },
    ended,
  };
  return watch;
}
