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
import { createQuestions } from "./questions.js";
import type { QueueEvent } from "./queue-watch.js";
import type { Reader } from "./reader.js";
import type { Registry } from "./registry.js";
import { type Emit, labelOf } from "./say.js";
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
  /** Queues whose streams are or were read, and from when on; milliseconds since 1970 by Redis' clock. */
  const reads = new Map<string, Promise<void>>();
  let since = 0;
  const questions = createQuestions((failure, count) => {
    const why = failure instanceof Error ? failure.message : String(failure);
    report(
      `The monitor does not say what it has of ${count} jobs that ended and left no record ` +
        `(${why}): their viewers wait until it does.`,
    );
  });
  let isOld = false;
  let isClosed = false;

  function readQueue(queue: QueueRef, upTo: string): Promise<void> {
    const { maxTracked: limit } = settings;
    const read = readBacklog(reader, queue, { after: `${since}-0`, upTo, limit }).then((found) => {
      for (const one of found) add(one);
    });
    reads.set(queue.base, read);
    read.catch(() => reads.delete(queue.base));
    return read;
  }

  function add(one: Gone): void {
    isOld = false;
    gone.set(one.key, one);
    if (gone.size > settings.maxTracked) gone.delete(gone.keys().next().value as string);
    if (isNamed.has(one.queue.base)) questions.add(() => endRoot(one));
    if (settings.mode === "flow") addStage(one);
  }

  function addStage(one: Gone): void {
    const stage = idOf(settings.stageId, one);
    if (stage === undefined) return;
    const known = stages.get(stage);
    stages.set(stage, known === undefined || known?.key === one.key ? one : null);
    if (stages.size > settings.maxTracked) stages.delete(stages.keys().next().value as string);
  }

  function ask(): void {
    if (hosts.length > 0) questions.ask();
  }

  async function snapshotsOf(jobId: string): Promise<JobSnapshot[]> {
    const snapshots = await Promise.all(hosts.map((host) => host.get(jobId)));
    return snapshots.filter((snapshot) => snapshot !== undefined);
  }

  /** Whether a job of the monitor is this one, and not the flow of which it is a stage. */
  function isRoot(one: Gone, { labels, stages }: JobSnapshot): boolean {
    const { queue, name } = labels;
    if (queue !== undefined && queue !== one.queue.name) return false;
    if (name !== undefined && one.name !== "" && labelOf(one.name) !== name) return false;
    const id = settings.mode === "flow" ? idOf(settings.stageId, one) : undefined;
    return id === undefined || !stages.some(({ stage }) => stage === id);
  }

  /** A job of a watched queue, if a monitor waits for its end. */
  async function endRoot(root: Gone): Promise<void> {
    if (gone.get(root.key) !== root || registry.tracked.has(root.key)) return;
    if (registry.remembered(root.key)) return;
    const jobId = idOf(settings.jobId, root);
    if (jobId === undefined || !isJobId(jobId)) return;
    const snapshots = (await snapshotsOf(jobId)).filter((snapshot) => isRoot(root, snapshot));
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
      if (snapshot.done) continue;
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
      if (name === "" || OVER.has(status)) continue;
      await (reads.get(queue.base) ?? readQueue(queue, NEWEST));
    }
  }

  return {
    async read(queue, upTo) {
      if (upTo === STREAM_START) return;
      since = Math.max(0, timeOf(upTo) - settings.lookBackMs);
      await readQueue(queue, upTo);
      ask();
    },

    eventsOf(key) {
      const { events = [] } = gone.get(key) ?? {};
      gone.delete(key);
      return events;
    },

    found(job) {
      if (settings.mode === "job" || gone.size === 0) return;
      questions.add(() => endStagesOf(job));
      ask();
    },

    missed({ queue, id, key, name }, events) {
      add({ queue, id, key, name, events });
      ask();
    },

    again() {
      const all = settings.named.map((queue) => readQueue(queue, NEWEST));
      Promise.all(all).then(ask, report);
    },

    sweep() {
      if (isOld && questions.isIdle) {
        gone.clear();
        stages.clear();
        reads.clear();
      }
      isOld = true;
    },

    close() {
      isClosed = true;
      questions.close();
    },
  };
}

const lastAttempt = ({ stages }: JobSnapshot): number =>
  stages.reduce((last, { attempt }) => Math.max(last, attempt), 0);

/**
 * What the host's function calls it. Undefined when the function throws, or when the job's own id
 * does not matter to it: then another job may be called the same.
 */
function idOf(name: Settings["jobId"], { id, ...rest }: Gone): string | undefined {
  try {
    const called = name(sourceJob({ ...rest, id }));
    return called === name(sourceJob({ ...rest, id: `${id}~` })) ? undefined : called;
  } catch {
    return undefined;
  }
}
