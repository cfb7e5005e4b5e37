import { createEngine, type EngineHost, type WorkflowEngine } from "@org/workflow-monitor";
import { isRetryByHand } from "./digest.js";
import { jobRef, type QueueRef } from "./keys.js";
import { createLooks } from "./looks.js";
import { type BullmqSourceOptions, readOptions, sourceJob } from "./options.js";
import { readProgress } from "./progress.js";
import type { QueueEvent } from "./queue-watch.js";
import { createQueues } from "./queues.js";
import { createReader } from "./reader.js";
import { createRecall, type Recall } from "./recall.js";
import { createRegistry } from "./registry.js";
import { createRounds, type Rounds } from "./rounds.js";
import type { Emit } from "./say.js";
import { createSweep } from "./sweep.js";
import type { Tracked } from "./tracked.js";

/** BullMQ as an engine: `monitor.attach(source)`. It connects when it is first attached. */
export interface BullmqSource extends WorkflowEngine {
  /** Ends every connection that it made; nothing is said any more. Idempotent, never rejects. */
  close(): Promise<void>;
}

/** Events of a whole queue that change its jobs. */
const QUEUE_EVENTS = new Set(["paused", "resumed", "cleaned"]);
/** Events that say nothing of a job which is not followed. */
const IDLE_EVENTS = new Set(["removed", "retries-exhausted", "deduplicated", "duplicated"]);

/** BullMQ's jobs and flows as the jobs of a monitor. Throws a TypeError for options that are wrong, and nothing afterwards. */
export function bullmqSource(options: BullmqSourceOptions): BullmqSource {
  const settings = readOptions(options);
  const engine = createEngine();
  let stop: (() => Promise<unknown>) | undefined;
  let started: { rounds: Rounds; recall: Recall } | undefined;
  /** Monitors that listen. */
  const hosts: EngineHost[] = [];
  let isAway = false;
  let closing: Promise<void> | undefined;

  function report(error: unknown): void {
    try {
      settings.onError(error instanceof Error ? error : new Error(String(error)));
    } catch {
      // Where errors go, this one cannot.
    }
  }

  /** A connection that is lost says so at each of its tries: once is enough. */
  function lost(error: unknown): void {
    if (!isAway && !closing) report(error);
    isAway = true;
  }

  const back = () => {
    isAway = false;
  };

  const emit: Emit = (name: string, event: object) => {
    try {
      (engine.emit as (name: string, event: object) => void)(name, event);
    } catch (thrown) {
      report(thrown); // a listener's own
    }
  };

  function parse(progress: unknown, one: Tracked) {
    try {
      return readProgress(settings.parseProgress(progress, sourceJob(one)));
    } catch (thrown) {
      report(thrown);
      return undefined;
    }
  }

  function start(): { rounds: Rounds; recall: Recall } {
    const registry = createRegistry(settings, report);
    const schedule = () => rounds.schedule();
    const queues = createQueues({ settings, onEvent: hear, onDue: schedule, onError: lost });
    const { connection } = settings;
    const reader = createReader({ connection, onError: lost, onReady: back });
    const looks = createLooks({ settings, queues, reader, report });
    const follow = (one: Tracked) => {
      rounds.mark(one);
      schedule();
    };
    const recall = createRecall({ settings, registry, reader, hosts, emit, report, follow });
    const rounds = createRounds({
      ...{ settings, registry, queues, reader, looks, recall, parse, emit, report },
      ...{ onFailure: lost, onSuccess: back },
    });
    const sweep = createSweep({ settings, registry, queues, recall, rounds });

    function hear(queue: QueueRef, event: QueueEvent): void {
      const { jobId, name } = event;
      if (jobId === undefined) {
        // What is paused or cleaned is not told job by job.
        if (!QUEUE_EVENTS.has(name)) return;
        for (const one of registry.tracked.values()) {
          if (one.queue.base === queue.base) take(one, event);
        }
        return;
      }
      const ref = jobRef(queue, jobId);
      const known = registry.tracked.get(ref.key);
      const isNews = name === "added" || isRetryByHand(event) || !registry.remembered(ref.key);
      if (known || (isNews && !IDLE_EVENTS.has(name)))
        take(known ?? registry.add(ref, true), event);
    }

    function take(one: Tracked, event: QueueEvent): void {
      one.inbox.push(event);
      follow(one);
    }

    for (const queue of settings.named) queues.follow(queue);
    stop = () => {
      sweep.close();
      recall.close();
      rounds.close();
      return Promise.all([queues.close(), reader.close()]);
    };
    return { rounds, recall };
  }

  return {
    on(event, listener) {
      engine.on(event, listener);
      if (closing) return;
      // A listener that comes later hears what is, too.
      if (started) started.rounds.retell();
      else started = start();
      started.rounds.schedule();
    },
    off: (event, listener) => engine.off(event, listener),
    attached(host) {
      hosts.push(host);
      started?.recall.again();
    },
    close() {
      closing ??= Promise.resolve(stop?.()).then(() => {});
      return closing;
    },
  };
}
