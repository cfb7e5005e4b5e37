import type { Settings } from "./options.js";
import type { Queues } from "./queues.js";
import type { Recall } from "./recall.js";
import type { Registry } from "./registry.js";
import type { Rounds } from "./rounds.js";
import type { Tracked } from "./tracked.js";

export interface SweepOptions {
  settings: Settings;
  registry: Registry;
  queues: Queues;
  recall: Pick<Recall, "sweep">;
  rounds: Pick<Rounds, "mark" | "schedule">;
}

/** What is looked at in one sweep; the next goes on from there. */
const LOOKS_A_SWEEP = 5_000;

/** The slow reconcile: from time to time everything that is followed is looked at, whatever was heard. */
export function createSweep({ settings, registry, queues, recall, rounds }: SweepOptions): {
  close(): void;
} {
  let timer: NodeJS.Timeout;
  let rest: Iterator<Tracked> | undefined;

  function later(): void {
    // Not at the same time as every other process.
    timer = setTimeout(sweep, settings.reconcileMs * (0.8 + 0.4 * Math.random()));
  }

  function sweep(): void {
    const used = new Set<string>();
    for (const { queue } of registry.tracked.values()) used.add(queue.base);
    queues.endUnused((base) => used.has(base));
    for (const one of queues.values()) queues.demand(one, "begun");
    for (let count = 0; count < LOOKS_A_SWEEP; count++) {
      rest ??= registry.tracked.values();
      const { value, done } = rest.next();
      if (done) {
        rest = undefined;
        break;
      }
      rounds.mark(value);
    }
    recall.sweep();
    rounds.schedule();
    later();
  }

  later();
  return { close: () => clearTimeout(timer) };
}
