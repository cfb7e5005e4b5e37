import { compareStreamIds, type QueueRef, STREAM_START, timeOf } from "./keys.js";
import type { Settings } from "./options.js";
import { createQueueWatch, type QueueEvent, type QueueWatch } from "./queue-watch.js";
import type { ListOptions } from "./reader.js";

/**
 * What is to be done for a queue: to read its events where no connection brings them, and to list the
 * jobs that have begun, or all. `start` is the first listing.
 */
type Due = "nothing" | "events" | "begun" | "all" | "start";
const DUE: readonly Due[] = ["nothing", "events", "begun", "all", "start"];

/** A queue that is followed. */
export interface Followed {
  readonly watch: QueueWatch;
  due: Due;
  /** What was heard when its jobs were last looked at; empty: they never were. */
  mark: string;
  /** Events before this place may have been trimmed before they were heard. */
  gapEnd: string;
  gapAt: number;
}

/** Which queues are followed: those that are watched, and those in which their jobs have descendants. */
export interface Queues {
  get(base: string): Followed | undefined;
  values(): Iterable<Followed>;
  follow(queue: QueueRef): void;
  demand(followed: Followed, due: Due): void;
  /** Follows a queue's events from this place on. */
  listen(followed: Followed, from: string): void;
  /** Reads the events of queues without a live connection soon. */
  readSoon(): void;
  /**
   * Called with the oldest event that a stream had at a look, once the events up to that look were
   * heard: if it is later than what was heard at the look before, something was missed.
   */
  checkForGap(followed: Followed, oldest: string): void;
  /** Ends those that are not watched and have no job any more. */
  endUnused(isUsed: (base: string) => boolean): void;
  close(): Promise<void>;
}

export interface QueuesOptions {
  settings: Settings;
  onEvent(queue: QueueRef, event: QueueEvent): void;
  /** Something is due. */
  onDue(): void;
  onError(error: Error): void;
}

const GAPS_APART_MS = 1_000;
/** How often the events of a queue are read while its connection is away, or if it has none. */
const READS_APART_MS = 1_000;
/** Most connections for queues that are followed only for descendants. The others have none. */
const MOST_CONNECTIONS = 32;

export function createQueues({ settings, onEvent, onDue, onError }: QueuesOptions): Queues {
  const followed = new Map<string, Followed>();
  const isNamed = new Set(settings.named.map(({ base }) => base));
  let reading: NodeJS.Timeout | undefined;

  function readSoon(): void {
    reading ??= setTimeout(() => {
      reading = undefined;
      for (const one of followed.values()) if (!one.watch.isLive) demand(one, "events");
    }, READS_APART_MS);
  }

  function demand(one: Followed, due: Due): void {
    if (DUE.indexOf(due) > DUE.indexOf(one.due)) one.due = due;
    onDue();
  }

  return {
    get: (base) => followed.get(base),
    values: () => followed.values(),
    demand,
    readSoon,

    listen(one, from) {
      const { queue, isFollowing } = one.watch;
      const others = [...followed.values()].filter(
        ({ watch }) => watch.isFollowing && !isNamed.has(watch.queue.base),
      );
      const mayConnect = isFollowing || isNamed.has(queue.base) || others.length < MOST_CONNECTIONS;
      one.watch.follow(from, mayConnect ? undefined : "mute");
    },

    follow(queue) {
      if (followed.has(queue.base) || queue.name === "") return; // a key that is none of BullMQ's
      const one: Followed = {
        watch: createQueueWatch(queue, {
          connection: settings.connection,
          onEvent: (event) => onEvent(queue, event),
          onGap: () => demand(one, "all"),
          onAway: readSoon,
          onError,
        }),
        due: "start",
        mark: "",
        gapEnd: STREAM_START,
        gapAt: Number.NEGATIVE_INFINITY,
      };
      followed.set(queue.base, one);
    },

    checkForGap(one, oldest) {
      const wasHeard = one.mark;
      one.mark = one.watch.heard;
      if (wasHeard === "" || wasHeard === STREAM_START) return;
      if (compareStreamIds(oldest, wasHeard) <= 0) return;
      one.gapEnd = oldest;
      if (performance.now() < one.gapAt + GAPS_APART_MS) return;
      one.gapAt = performance.now();
      demand(one, "all");
    },

    endUnused(isUsed) {
      for (const [base, { watch }] of followed) {
        if (isNamed.has(base) || isUsed(base)) continue;
        followed.delete(base);
        void watch.close();
      }
    },

    async close() {
      clearTimeout(reading);
      await Promise.all([...followed.values()].map(({ watch }) => watch.close()));
      followed.clear();
    },
  };
}

/** What is to be listed of a queue. In those that are only followed for descendants, nothing is. */
export function listOptions(one: Followed, settings: Settings): ListOptions {
  const isNamed = settings.named.some(({ base }) => base === one.watch.queue.base);
  const limit = isNamed && one.due !== "events" ? settings.maxTracked : 0;
  if (one.due === "begun" || one.due === "events") return { begun: true, limit };
  // What ended unheard did so after the last event, give or take clocks that differ.
  const since = one.mark === "" ? Date.now() - settings.lookBackMs : timeOf(one.mark) - 5_000;
  return { begun: false, limit, endedSince: Math.max(0, since) };
}
