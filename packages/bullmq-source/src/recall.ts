import {
  type EngineHost,
  isJobId,
  type JobSnapshot,
  type StageSnapshot,
} from "@org/workflow-monitor";
import { type Gone, readBacklog } from "./backlog.js";
import { endingOf } from "./digest.js";
import { stageEndId } from "./flow-mode.js";
import { type JobRef, type QueueRef, queueRef, STREAM_START, timeOf } from "./keys.js";
import { type Settings, sourceJob } from "./options.js";
import type { QueueEvent } from "./queue-watch.js";
import type { Reader } from "./reader.js";
import type { Registry } from "./registry.js";
import type { Emit } from "./say.js";
import type { Tracked, WatchedJob } from "./tracked.js";

/**
 * Ends what ended while no source was there and left no record: BullMQ's event streams tell how such
 * jobs ended, and the monitors tell which of them they wait for.
 */
export interface Recall {
  /** Reads what a queue's stream tells, up to a place, of jobs whose record is gone. */
  read(queue: QueueRef, upTo: string): Promise<void>;
  /** What it tells of one of them, which is then no longer looked for. */
  eventsOf(key: string): QueueEvent[];
  /** A job was found that is older than the source. Some of its stages may have no record any more. */
  found(job: WatchedJob): void;
  /** A job that is older than the source ended before it was seen, and left no record. */
  missed(ref: JobRef & { name: string }, events: QueueEvent[]): void;
  /** Another monitor listens. */
  again(): void;
  /** From time to time: forgets what nobody waits for. */
  sweep(): void;
  close(): void;
}

export interface RecallOptions {
  settings: Settings;
  registry: Registry;
  reader: Pick<Reader, "eventsOfGone">;
  /** Those that are listening. */
  hosts: readonly EngineHost[];
  emit: Emit;
  report(error: unknown): void;
  /** This job is to be looked at. */
  follow(tracked: Tracked): void;
}

const ASKED_AT_ONCE = 16;
/** A monitor that does not answer is asked again: its store may not be connected yet. */
const RETRY_MS = 1_000;
const REPORT_AT_TRY = 5;
const MOST_TRIES = 600;
/** Everything up to the end of the stream. */
const NEWEST = "+";
const OVER: ReadonlySet<string> = new Set(["completed", "failed", "cancelled", "skipped"]);

export function createRecall(options: RecallOptions): Recall {
  const { settings, registry, reader, hosts, emit, report, follow } = options;
  const isNamed = new Set(settings.named.map(({ base }) => base));
  /** Jobs without a record that nobody has claimed yet. */
  const gone = new Map<string, Gone>();
  /** The same by what they are called as stages; null: more than one is called so. */
  const stages = new Map<string, Gone | null>();
  /** Queues whose streams were read, and from when on; milliseconds since 1970 by Redis' clock. */
  const read = new Set<string>();
  let since = 0;
  /** What is to be asked; each rejects when a monitor does not answer. */
  const questions: (() => Promise<void>)[] = [];
  let isAsking = false;
  let tries = 0;
  let retry: NodeJS.Timeout | undefined;
  let isOld = false;
  let isClosed = false;

  async function readQueue(queue: QueueRef, upTo: string): Promise<void> {
    const { maxTracked: limit } = settings;
    const found = await readBacklog(reader, queue, { after: `${since}-0`, upTo, limit });
    read.add(queue.base);
    for (const one of found) add(one);
  }

  function add(one: Gone): void {
    isOld = false;
    gone.set(one.key, one);
    if (gone.size > settings.maxTracked) gone.delete(gone.keys().next().value as string);
    if (isNamed.has(one.queue.base)) questions.push(() => endRoot(one));
    if (settings.mode === "flow") addStage(one);
  }

  function addStage(one: Gone): void {
    const stage = idOf(settings.stageId, one);
    // An id that does not depend on the job's may be a stage of another flow.
    if (stage === undefined || stage === idOf(settings.stageId, { ...one, id: `${one.id}~` }))
      return;
    const known = stages.get(stage);
    stages.set(stage, known === undefined || known?.key === one.key ? one : null);
  }

  /** Not awaited by anybody: a monitor whose store is away keeps nothing up. */
  async function ask(): Promise<void> {
    if (isAsking || retry || hosts.length === 0) return;
    isAsking = true;
    const unanswered: typeof questions = [];
    let failure: unknown;
    for (let isAnswered = true; isAnswered && questions.length > 0 && !isClosed; ) {
      const some = questions.splice(0, ASKED_AT_ONCE);
      isAnswered = false;
      await Promise.all(
        some.map((question) =>
          question().then(
            () => {
              isAnswered = true;
            },
            (thrown: unknown) => {
              failure = thrown;
              unanswered.push(question);
            },
          ),
        ),
      );
    }
    isAsking = false;
    questions.push(...unanswered);
    if (unanswered.length > 0) askAgain(failure);
    else tries = 0;
  }

  function askAgain(failure: unknown): void {
    tries += 1;
    if (isClosed) return;
    if (tries === REPORT_AT_TRY) {
      const why = failure instanceof Error ? failure.message : String(failure);
      report(
        `The monitor does not say what it has of ${questions.length} jobs that ended and left no ` +
          `record (${why}): their viewers wait until it does.`,
      );
    }
    if (tries === MOST_TRIES) questions.length = 0;
    retry = setTimeout(() => {
      retry = undefined;
      void ask();
    }, RETRY_MS);
  }

  const snapshotsOf = (jobId: string) => Promise.all(hosts.map((host) => host.get(jobId)));

  /** A job of a watched queue, if a monitor waits for its end. */
  async function endRoot(root: Gone): Promise<void> {
    if (gone.get(root.key) !== root || registry.tracked.has(root.key)) return;
    if (registry.remembered(root.key)) return;
    const jobId = idOf(settings.jobId, root);
    if (jobId === undefined || !isJobId(jobId)) return;
    const snapshots = (await snapshotsOf(jobId)).filter((snapshot) => snapshot !== undefined);
    if (snapshots.length === 0) return;
    for (const { stages } of snapshots) await readQueuesOf(stages);
    if (isClosed) return;
    gone.delete(root.key);
    for (const snapshot of snapshots) {
      for (const [stage, one] of claims(snapshot)) {
        gone.delete(one.key);
        if (!OVER.has(stage.status)) endStage(snapshot, stage, one);
      }
    }
    const open = snapshots.find(({ done }) => !done);
    if (!open || registry.tracked.has(root.key)) return;
    const one = registry.add(root, true);
    one.name = root.name || (open.labels.name ?? "");
    one.recalled = open;
    // In which attempt it was, its record would have said.
    if (settings.mode === "job") one.told.ran = lastAttempt(open);
    one.inbox.push(...root.events);
    follow(one);
  }

  /** Stages of a flow that goes on, which its jobs have forgotten. */
  async function endStagesOf(job: WatchedJob): Promise<void> {
    if (!registry.jobs.has(job) || gone.size === 0) return;
    for (const snapshot of await snapshotsOf(job.jobId)) {
      if (!snapshot || snapshot.done) continue;
      for (const [stage, one] of claims(snapshot)) {
        if (job.stageIds.has(stage.stage) || OVER.has(stage.status)) continue;
        gone.delete(one.key);
        endStage(snapshot, stage, one);
      }
    }
  }

  function endStage(
    { jobId, run }: JobSnapshot,
    { stage, attempt }: StageSnapshot,
    { key, events }: Gone,
  ): void {
    const ending = endingOf(events);
    if (!ending || isClosed) return;
    const { id, status, error } = ending;
    emit("stage", {
      ...{ jobId, run, stage, attempt, status },
      ...{ timestamp: timeOf(id), id: stageEndId(key, id) },
      ...(status === "cancelled" && { reason: "removed" }),
      ...(error !== undefined && { error }),
    });
  }

  /** Which of the jobs that are gone these stages are. */
  function* claims(job: JobSnapshot): Generator<[StageSnapshot, Gone]> {
    for (const stage of job.stages) {
      const one = stages.get(stage.stage);
      if (one && gone.get(one.key) === one) yield [stage, one];
    }
  }

  /** Stages are called `<queue>:<id>`, unless the host calls them otherwise. */
  async function readQueuesOf(all: readonly StageSnapshot[]): Promise<void> {
    if (settings.mode === "job") return;
    for (const { stage, status } of all) {
      const name = stage.slice(0, Math.max(0, stage.indexOf(":")));
      const queue = queueRef(settings.prefix, name);
      if (name === "" || OVER.has(status) || read.has(queue.base)) continue;
      await readQueue(queue, NEWEST);
    }
  }

  return {
    async read(queue, upTo) {
      if (upTo === STREAM_START) return;
      since = Math.max(0, timeOf(upTo) - settings.lookBackMs);
      await readQueue(queue, upTo);
      void ask();
    },

    eventsOf(key) {
      const { events = [] } = gone.get(key) ?? {};
      gone.delete(key);
      return events;
    },

    found(job) {
      if (settings.mode === "job" || gone.size === 0) return;
      questions.push(() => endStagesOf(job));
      void ask();
    },

    missed({ queue, id, key, name }, events) {
      add({ queue, id, key, name, events });
      void ask();
    },

    again() {
      const all = settings.named.map((queue) => readQueue(queue, NEWEST));
      Promise.all(all).then(ask, report);
    },

    sweep() {
      if (isOld && questions.length === 0 && !isAsking) {
        gone.clear();
        stages.clear();
        read.clear();
      }
      isOld = true;
    },

    close() {
      isClosed = true;
      clearTimeout(retry);
    },
  };
}

const lastAttempt = ({ stages }: JobSnapshot): number =>
  stages.reduce((last, { attempt }) => Math.max(last, attempt), 0);

/** By the host's function, which may throw. */
function idOf(name: Settings["jobId"], one: Gone): string | undefined {
  try {
    return name(sourceJob(one));
  } catch {
    return undefined;
  }
}
