import { type ConnectionOptions, QueueEvents } from "bullmq";
import { compareStreamIds, type QueueRef } from "./keys.js";

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

/** One queue's events: one QueueEvents, which resumes from the last stream id when its connection breaks. */
export interface QueueWatch {
  readonly queue: QueueRef;
  /** The last event that was heard. */
  readonly heard: string;
  /** Begins, or begins anew, with what comes after this place. */
  follow(from: string): void;
  /** Resolves when everything up to this place was heard, or it is not to be expected soon. */
  reached(id: string, ms: number): Promise<void>;
  close(): Promise<void>;
}

export interface QueueWatchOptions {
  connection: ConnectionOptions;
  onEvent(event: QueueEvent): void;
  /** The connection is back: something may have been missed. */
  onGap(): void;
  /** Nothing is heard any more, until `follow` is called. */
  onBroken(): void;
  onError(error: Error): void;
}

/** QueueEvents with one ear for everything: each event's place counts, whatever its name. */
class Tap extends QueueEvents {
  hear: ((name: string, args: unknown[]) => void) | undefined;

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
  let closing: Promise<void> | undefined;
  const waiting = new Set<{ id: string; resolve(): void }>();

  function hear(name: string, args: unknown[]): void {
    if (name === "error" || name === "ioredis:close") {
      isAway = true;
      mayHaveMissed = true;
      release();
      if (name === "error") onError(args[0] as Error);
      return;
    }
    const [fields, id] = name === "drained" ? [{}, args[0]] : args;
    if (typeof id !== "string" || name.includes(":")) return; // `<event>:<job id>`, the same again
    isAway = false;
    heard = id;
    const { jobId, prev, data, failedReason, name: jobName } = fields as Partial<QueueEvent>;
    onEvent({ name, id, jobId, jobName: jobName as string | undefined, prev, data, failedReason });
    if (waiting.size > 0) release();
  }

  function release(): void {
    for (const waiter of waiting) {
      if (isAway || compareStreamIds(heard, waiter.id) >= 0) waiter.resolve();
    }
  }

  function follow(from: string): void {
    if (closing) return;
    void end(tap);
    isAway = false;
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
      isAway = false;
      if (mayHaveMissed) onGap();
      mayHaveMissed = false;
    });
    // It ends by itself at an event that it cannot parse, or when its connection gives up.
    fresh.run().catch((error: Error) => {
      if (tap !== fresh || closing) return;
      onError(error);
      tap = undefined;
      void end(fresh);
      onBroken();
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
    follow,
    reached(id, ms) {
      if (isAway || closing || compareStreamIds(heard, id) >= 0) return Promise.resolve();
      return new Promise((done) => {
        const resolve = () => {
          clearTimeout(timer);
          waiting.delete(waiter);
          done();
        };
        const waiter = { id, resolve };
        const timer = setTimeout(resolve, ms);
        waiting.add(waiter);
      });
    },
    close() {
      closing ??= end(tap);
      for (const waiter of waiting) waiter.resolve();
      return closing;
    },
  };
}
