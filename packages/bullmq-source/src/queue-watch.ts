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
 * connection of their own, which may be away or slow: what is read otherwise is told with `take`.
 */
export interface QueueWatch {
  readonly queue: QueueRef;
  /** The last event that was heard. */
  readonly heard: string;
  /** There is a connection, which comes back by itself if it is away. */
  readonly isFollowing: boolean;
  /** It is not away. */
  readonly isLive: boolean;
  /** Begins anew at this place, over a connection of its own or, with `mute`, without one. */
  follow(from: string, how?: "mute"): void;
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
  /** No event comes by itself, until `onGap` or until `follow` is called. */
  onAway(): void;
  /** Called once each time that the connection fails. */
  onError(error: Error): void;
}

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
  const { connection, onEvent, onGap, onAway, onError } = options;
  let tap: Tap | undefined;
  let heard = "0-0";
  let isAway = false;
  let mayHaveMissed = false;
  let hasComplained = false;
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
      mayHaveMissed = true;
      if (name === "error") complain(args[0] as Error);
      away();
    }
  }

  function here(): void {
    isAway = false;
    hasComplained = false;
  }

  function away(): void {
    isAway = true;
    release();
    onAway();
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

  function follow(from: string, how?: "mute"): void {
    if (closing) return;
    void end(tap);
    tap = undefined;
    heard = from;
    mayHaveMissed = false;
    if (how === "mute") return;
    here();
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
    // It ends by itself at an event that it cannot parse.
    fresh.run().catch((error: Error) => {
      if (tap !== fresh || closing) return;
      tap = undefined;
      void end(fresh);
      const what = `An event of ${queue.base}events after ${heard} is left out, it cannot be read`;
      complain(error instanceof SyntaxError ? new Error(`${what}: ${error.message}`) : error);
      away();
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
    get isLive() {
      return tap !== undefined && !isAway;
    },
    follow,
    take,
    skipTo(id) {
      if (compareStreamIds(heard, id) < 0) heard = id;
    },
    reached(id, ms) {
      const isReached = compareStreamIds(heard, id) >= 0;
      if (isReached || isAway || !tap || closing) return Promise.resolve(isReached);
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
      closing ??= end(tap);
      release();
      return closing;
    },
  };
}
