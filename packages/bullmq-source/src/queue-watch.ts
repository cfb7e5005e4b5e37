import { type ConnectionOptions, QueueEvents } from "bullmq";
import { compareStreamIds, isStreamId, type QueueRef } from "./keys.js";

/** An event of a queue, as far as it matters here. */
export interface QueueEvent {
  /** BullMQ's: `added`, `waiting`, `active`, `progress`, … */
  name: string;
  /** Where it stands in the queue's stream. */
  id: string;
  /** Undefined for those of a whole queue: `paused`, `resumed`, `cleaned`, `drained`. */
  jobId: string | undefined;
  /** The job's name, of `added` only. */
  jobName: string | undefined;
  prev: string | undefined;
  /** What `updateProgress` was given. */
  data: unknown;
  failedReason: string | undefined;
}

/**
 * One queue's events, each told once and in the order of the queue's stream. They come over a
 * connection of their own, which may be away or slow: others may read the same events and `take` them.
 */
export interface QueueWatch {
  readonly queue: QueueRef;
  /** The last event that was heard. */
  readonly heard: string;
  /** False before `follow`, and from `onBroken` on. */
  readonly isFollowing: boolean;
  /** Begins, or begins anew, with what comes after this place. */
  follow(from: string): void;
  /** Takes events that were read otherwise, in order. Those that were heard before are left out. */
  take(events: readonly QueueEvent[]): void;
  /** Everything up to this place was taken, or does not exist any more. */
  skipTo(id: string): void;
  /**
   * Waits for the events up to this place. Resolves to false when the connection is away, or when
   * they have not come after so many milliseconds.
   */
  reached(id: string, ms: number): Promise<boolean>;
  close(): Promise<void>;
}

export interface QueueWatchOptions {
  connection: ConnectionOptions;
  onEvent(event: QueueEvent): void;
  /** The connection is back: something may have been missed. */
  onGap(): void;
  /** No event comes by itself any more, until `follow` is called. */
  onBroken(): void;
  /** Called once each time that the connection fails. */
  onError(error: Error): void;
}

/** The least time between two calls of `onBroken`: a stream of nonsense does not make it spin. */
const BROKEN_APART_MS = 1_000;

/** QueueEvents with one ear for everything: each event's place counts, whatever its name. */
class Tap extends QueueEvents {
  hear: ((name: unknown, args: unknown[]) => void) | undefined;

  // biome-ignore lint/suspicious/noExplicitAny: QueueEvents types its emit by event
  override emit(event: any, ...args: any[]): boolean {
    this.hear?.(event, args);
    return true;
  }
}

export function createQueueWatch(queue: QueueRef, options: QueueWatchOptions): QueueWatch {
  const { connection, onEvent, onGap, onBroken, onError } = options;
  let tap: Tap | undefined;
  let heard = "0-0";
  let isAway = false;
  let mayHaveMissed = false;
  let hasComplained = false;
  let brokenAt = Number.NEGATIVE_INFINITY;
  let mending: NodeJS.Timeout | undefined;
  let closing: Promise<void> | undefined;
  const waiting = new Set<{ id: string; settle(isReached: boolean): void }>();

  /** What QueueEvents emits: `(fields, id)` or `(id)` for an entry of the stream, else of its connection. */
  function hear(name: unknown, args: unknown[]): void {
    const id = args.at(-1);
    if (id === heard) return; // `<event>:<job id>`, the same again
    if (isStreamId(id)) {
      here();
      const fields = (args.length > 1 ? args[0] : {}) as Partial<QueueEvent>;
      const { jobId, prev, data, failedReason, name: jobName } = fields;
      take([{ name: name as string, id, jobId, jobName, prev, data, failedReason }]);
    } else if (name === "error" || name === "ioredis:close") {
      isAway = true;
      mayHaveMissed = true;
      if (name === "error") complain(args[0] as Error);
      release();
    }
  }

  function here(): void {
    isAway = false;
    hasComplained = false;
  }

  function complain(error: Error): void {
    if (!hasComplained) onError(error);
    hasComplained = true;
  }

  function take(events: readonly QueueEvent[]): void {
    for (const event of events) {
      if (compareStreamIds(event.id, heard) <= 0) continue;
      heard = event.id;
      if (event.name) onEvent(event); // an entry that is none of BullMQ's has no name
    }
    if (waiting.size > 0) release();
  }

  function release(): void {
    for (const waiter of waiting) {
      const isReached = compareStreamIds(heard, waiter.id) >= 0;
      if (isReached || isAway || closing) waiter.settle(isReached);
    }
  }

  function follow(from: string): void {
    if (closing) return;
    void end(tap);
    here();
    mayHaveMissed = false;
    heard = from;
    const fresh = new Tap(queue.name, {
      connection,
      prefix: queue.prefix,
      skipVersionCheck: true,
      autorun: false,
      lastEventId: from,
    });
    tap = fresh;
    fresh.hear = hear;
    fresh.getBackend().on("ready", () => {
      here();
      if (mayHaveMissed) onGap();
      mayHaveMissed = false;
    });
    // It ends by itself at an event that it cannot parse, or when its connection gives up.
    fresh.run().catch((error: Error) => {
      if (tap !== fresh || closing) return;
      tap = undefined;
      void end(fresh);
      isAway = true;
      complain(error);
      release();
      const wait = Math.max(0, brokenAt + BROKEN_APART_MS - performance.now());
      mending = setTimeout(() => {
        brokenAt = performance.now();
        onBroken();
      }, wait);
    });
  }

  /** Not by `close()`, which waits for a connection that may never come. */
  async function end(former: Tap | undefined): Promise<void> {
    if (!former) return;
    former.hear = undefined;
    former.closing = former.getBackend().close(true);
    await former.closing.catch(onError);
  }

  return {
    queue,
    get heard() {
      return heard;
    },
    get isFollowing() {
      return tap !== undefined;
    },
    follow,
    take,
    skipTo(id) {
      if (compareStreamIds(heard, id) < 0) heard = id;
    },
    reached(id, ms) {
      const isReached = compareStreamIds(heard, id) >= 0;
      if (isReached || isAway || closing) return Promise.resolve(isReached);
      return new Promise((resolve) => {
        const settle = (isReached: boolean) => {
          clearTimeout(timer);
          waiting.delete(waiter);
          resolve(isReached);
        };
        const waiter = { id, settle };
        // After an event loop that stood still, what lies in the socket is heard first.
        const timer = setTimeout(() => setImmediate(settle, false), ms);
        waiting.add(waiter);
      });
    },
    close() {
      clearTimeout(mending);
      closing ??= end(tap);
      release();
      return closing;
    },
  };
}
