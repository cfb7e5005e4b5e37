import type { Damage } from "./damage.js";
import { type IntakeOptions, takeIn } from "./intake.js";
import { compareStreamIds, jobRef } from "./keys.js";
import type { Looks } from "./looks.js";
import type { Settings } from "./options.js";
import { type Followed, listOptions, type Queues } from "./queues.js";
import type { ListOptions, Reader } from "./reader.js";
import type { Recall } from "./recall.js";
import type { Registry } from "./registry.js";
import { type Emit, say } from "./say.js";
import { forgetTold, isOver, type Tracked, type WatchedJob } from "./tracked.js";

/**
 * The work: jobs that may have changed are looked at, in rounds, one after another, and what is new
 * of them is said. While a round is on its way, what changes waits for the next one.
 */
export interface Rounds {
  /** Something of this job may have changed. */
  mark(tracked: Tracked): void;
  /** In the next turn, so that what the events of this one tell is looked at together. */
  schedule(): void;
  /** Says everything that is once more. */
  retell(): void;
  close(): void;
}

export interface RoundsOptions {
  settings: Settings;
  registry: Registry;
  queues: Queues;
  reader: Reader;
  looks: Looks;
  recall: Recall;
  parse: IntakeOptions["parse"];
  emit: Emit;
  report(error: unknown): void;
  /** A round has failed: Redis is away, or does not do what it is asked for. It is tried again. */
  onFailure(error: unknown): void;
  onSuccess(): void;
}

const LOOKS_A_ROUND = 500;
const RETRY_MS = 1_000;

export function createRounds(options: RoundsOptions): Rounds {
  const { settings, registry, queues, reader, looks, recall } = options;
  const { parse, emit, report, onFailure, onSuccess } = options;
  const dirty = new Set<Tracked>();
  let isWorking = false;
  let isClosed = false;
  let isToRetell = false;
  let retry: NodeJS.Timeout | undefined;

  function schedule(): void {
    if (isWorking || isClosed || retry) return;
    isWorking = true;
    setImmediate(() => void turn());
  }

  async function turn(): Promise<void> {
    try {
      await work();
      onSuccess();
      isWorking = false;
      if (hasWork()) schedule(); // since it was last looked for
    } catch (thrown) {
      isWorking = false;
      if (isClosed) return;
      onFailure(thrown);
      retry = setTimeout(() => {
        retry = undefined;
        schedule();
      }, RETRY_MS);
    }
  }

  const hasWork = () =>
    dirty.size > 0 || isToRetell || [...queues.values()].some(({ due }) => due !== "nothing");

  async function work(): Promise<void> {
    while (!isClosed && hasWork()) {
      for (const one of queues.values()) if (one.due !== "nothing") await listDue(one);
      if (isToRetell) {
        isToRetell = false;
        for (const job of registry.jobs) {
          forgetTold(job);
          speak(job);
        }
      }
      if (dirty.size > 0) await round();
    }
  }

  async function listDue(one: Followed): Promise<void> {
    const { due } = one;
    const listed = listOptions(one, settings);
    one.due = "nothing"; // what becomes due meanwhile is done next
    await list(one, due, listed).catch((thrown: unknown) => {
      queues.demand(one, due);
      throw thrown;
    });
  }

  /** Finds the jobs of a queue that no event told of. Its events are followed from there: nothing falls in between. */
  async function list(one: Followed, due: Followed["due"], listed: ListOptions): Promise<void> {
    const { watch } = one;
    const { queue } = watch;
    const { live, ended, newest, damages } = await reader.list(queue, listed);
    if (isClosed) return;
    looks.complainOf(queue, damages);
    if (due === "start") {
      await recall.read(queue, newest);
      queues.listen(one, newest);
      one.mark = newest;
    } else if (compareStreamIds(newest, watch.heard) < 0) {
      // A stream that ends before what was heard is another one: Redis has lost it, or has another clock.
      one.gapEnd = watch.heard;
      queues.listen(one, newest);
      one.mark = newest;
      if (due === "events") queues.demand(one, "all");
    } else if (!watch.isLive) {
      await looks.catchUp(watch, newest);
      if (!watch.isFollowing) queues.listen(one, watch.heard);
    }
    if (!watch.isLive) queues.readSoon();
    if (isClosed || due === "events") return;
    const note = (id: string, isNews: (remembered?: "over" | "foreign") => boolean) => {
      const ref = jobRef(queue, id);
      if (registry.tracked.has(ref.key) || !isNews(registry.remembered(ref.key))) return;
      dirty.add(registry.add(ref, true));
    };
    for (const id of live) note(id, (remembered) => remembered !== "foreign");
    for (const id of ended) note(id, (remembered) => remembered === undefined);
    if (due === "begun") return;
    for (const tracked of registry.tracked.values()) {
      if (tracked.queue.base === queue.base) dirty.add(tracked);
    }
  }

  async function round(): Promise<void> {
    const batches = takeBatches();
    const found = await Promise.all(batches.map(looks.of)).catch((thrown: unknown) => {
      for (const one of batches.flat()) dirty.add(one);
      throw thrown;
    });
    if (isClosed) return;
    const jobs = new Set<WatchedJob>();
    const next = new Set<Tracked>();
    const lookNext = (one: Tracked) => next.add(one);
    for (const [one, seen] of found.flat()) {
      alone(() => {
        const seenBefore = one.seenAt;
        const job = seen.damage
          ? leaveOut(one, seen.damage)
          : takeIn(one, seen, { registry, recall, parse, lookNext, speak });
        if (job) jobs.add(job);
        if (job?.root === one && one.gone && !one.ending) looks.doubt(one, seenBefore);
      });
      if (one.inbox.length === 0) dirty.delete(one); // what came meanwhile is in the look
    }
    for (const one of next) alone(() => lookAt(one));
    for (const job of jobs) alone(() => speak(job));
  }

  /** What goes wrong with one job does not stop the others. */
  function alone(work: () => void): void {
    try {
      work();
    } catch (thrown) {
      report(thrown);
    }
  }

  /** Some of what is marked, queue by queue. */
  function takeBatches(): Tracked[][] {
    const batches = new Map<string, Tracked[]>();
    let room = LOOKS_A_ROUND;
    for (const one of dirty) {
      if (room-- === 0) break;
      dirty.delete(one);
      if (registry.tracked.get(one.key) !== one) continue; // forgotten meanwhile
      const batch = batches.get(one.queue.base);
      if (batch) batch.push(one);
      else batches.set(one.queue.base, [one]);
    }
    return [...batches.values()];
  }

  /** What of a flow cannot be read keeps nothing else back; it is read again from time to time. */
  function leaveOut(one: Tracked, damage: Damage): WatchedJob | undefined {
    looks.complainOfJob(one, damage);
    one.inbox = [];
    if (one.job) one.job.unread.delete(one);
    else registry.disown(one);
    return one.job;
  }

  /** Until it was looked at, nothing is said of its job. */
  function lookAt(one: Tracked): void {
    if (one.job) queues.follow(one.queue);
    one.job?.unread.add(one);
    dirty.add(one);
  }

  /** Says what is new of a job, once all of it is known. Before its end, all of it is looked at again. */
  function speak(job: WatchedJob): void {
    if (job.unread.size > 0 || !registry.jobs.has(job)) return;
    if (!isOver(job.root)) job.ending = false;
    else if (!job.ending) {
      job.ending = true;
      for (const one of registry.below(job)) if (!isOver(one)) lookAt(one);
      if (job.unread.size > 0) return;
    }
    if (say(job, emit)) registry.end(job);
  }

  return {
    mark: (tracked) => void dirty.add(tracked),
    schedule,
    retell() {
      isToRetell = true;
    },
    close() {
      isClosed = true;
      clearTimeout(retry);
    },
  };
}
