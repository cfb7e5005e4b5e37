import { complaint, type Damage } from "./damage.js";
import type { Look } from "./facts.js";
import { compareStreamIds, type QueueRef, shown } from "./keys.js";
import type { Settings } from "./options.js";
import type { QueueWatch } from "./queue-watch.js";
import type { Followed, Queues } from "./queues.js";
import type { Reader } from "./reader.js";
import { Recent } from "./recent.js";
import type { Tracked } from "./tracked.js";

/** Looks at jobs together with the events that the looks cover. */
export interface Looks {
  /** Looks at jobs of one queue. The events up to each look have been heard when it resolves. */
  of(batch: readonly Tracked[]): Promise<(readonly [Tracked, Look])[]>;
  /** Hears everything up to a place of a queue's stream, over the reading connection if need be. */
  catchUp(watch: QueueWatch, at: string): Promise<void>;
  /** Complains once of a queue's key that cannot be read. */
  complainOf(queue: QueueRef, damages: readonly Damage[]): void;
  /** Complains once of a job's key that cannot be read. */
  complainOfJob(one: Tracked, damage: Damage): void;
  /** A job was told as removed without an event that says so: complains if there may have been one. */
  doubt(one: Tracked, seenBefore: string | undefined): void;
}

export interface LooksOptions {
  settings: Settings;
  queues: Queues;
  reader: Reader;
  report(message: string): void;
}

/**
 * How long a look waits for the event connection, which is a few milliseconds behind when all is
 * well. After that the events are read.
 */
const CATCH_UP_MS = 100;
const REMEMBERED = 10_000;

export function createLooks({ settings, queues, reader, report }: LooksOptions): Looks {
  /** Keys, and gaps of streams, that were complained of. */
  const known = new Recent<true>(REMEMBERED);

  function once(what: string, message: string): void {
    if (!known.get(what)) report(message);
    known.set(what, true);
  }

  function complainOf({ name }: QueueRef, damages: readonly Damage[]): void {
    for (const damage of damages) {
      const message = `queue ${name} is watched without it. Restore or delete the key.`;
      once(damage.key, complaint(damage, message));
    }
  }

  async function catchUp(watch: QueueWatch, at: string): Promise<void> {
    if (await watch.reached(at, CATCH_UP_MS)) return;
    for (let after: string | undefined = watch.heard; after !== undefined; ) {
      const { events, next } = await reader.events(watch.queue, after, at);
      watch.take(events);
      // Further on, if the event connection has come in between.
      after = next && compareStreamIds(next, watch.heard) < 0 ? watch.heard : next;
    }
    watch.skipTo(at);
  }

  return {
    catchUp,
    complainOf,

    complainOfJob({ id, queue }, damage) {
      const message =
        `job ${shown(id)} of queue ${queue.name} is left out. Restore or remove that job, ` +
        "or the job that names it as its parent or child.";
      once(damage.key, complaint(damage, message));
    },

    async of(batch) {
      const { queue } = batch[0] as Tracked;
      const asks = batch.map(({ id, kidCount, seenAt }) => ({
        id,
        kidsKnown: settings.mode === "flow" ? kidCount : undefined,
        wantsProgress: seenAt === undefined,
      }));
      const { oldest, looks, damages } = await reader.look(queue, asks);
      complainOf(queue, damages);
      const followed: Followed | undefined = queues.get(queue.base);
      const last = looks.at(-1);
      if (followed && last) {
        await catchUp(followed.watch, last.at);
        queues.checkForGap(followed, oldest);
      }
      return looks.map((seen, index) => [batch[index] as Tracked, seen] as const);
    },

    doubt({ queue }, seenBefore) {
      const { gapEnd } = queues.get(queue.base) ?? {};
      if (!gapEnd || !seenBefore || compareStreamIds(seenBefore, gapEnd) >= 0) return;
      once(
        `${queue.base}events ${gapEnd}`,
        `Event stream ${queue.base}events was trimmed before it was read, up to ${gapEnd}: how jobs ` +
          "ended that left no record is not known, they are told as removed. Let BullMQ keep more " +
          "events (streams.events.maxLen of the queue), or keep the jobs for some time.",
      );
    },
  };
}
