import { isJobId } from "@org/workflow-monitor";
import type { Kids } from "./facts.js";
import { type JobRef, parseKey, type QueueRef, shown } from "./keys.js";
import { type Settings, type SourceJob, sourceJob } from "./options.js";
import { isStageId } from "./progress.js";
import { Recent } from "./recent.js";
import {
  createTracked,
  createWatchedJob,
  hasBegun,
  isOver,
  reopen,
  type Tracked,
  type WatchedJob,
} from "./tracked.js";

/** Most descendants of one job: as many stages as a monitor takes (SPEC R13). */
const MOST_STAGES = 5_000;
const REMEMBERED = 10_000;

/** Which BullMQ jobs are followed, and whose they are. */
export interface Registry {
  readonly tracked: ReadonlyMap<string, Tracked>;
  readonly jobs: ReadonlySet<WatchedJob>;
  /** The queue of these keys, if anything of it was ever seen. */
  queue(base: string): QueueRef | undefined;
  /** What is remembered of a job that is not followed: it is over, or nobody's here. */
  remembered(key: string): "over" | "foreign" | undefined;
  /** Follows a job whose place is not known yet. */
  add(ref: JobRef, listed: boolean): Tracked;
  /** Finds out whose it is, after a look. Returns an ancestor that is to be looked at first, if there is one. */
  place(tracked: Tracked): Tracked | undefined;
  /** Adds children that are new. Returns them. */
  grow(tracked: Tracked, kids: Kids): Tracked[];
  /** Gives a descendant that was looked at its name as a stage. */
  nameStage(tracked: Tracked): void;
  /** Forgets a job that cannot be shown, and those that wait for it; that it is nobody's is remembered for some time. */
  disown(tracked: Tracked): void;
  /** A child that was taken out of its flow: what it is from here on, is told apart. */
  detach(tracked: Tracked): void;
  /** All descendants of a job's root. */
  below(job: WatchedJob): Tracked[];
  /** Forgets a job and everything below; that it is over is remembered for some time. */
  end(job: WatchedJob): void;
}

export function createRegistry(settings: Settings, report: (message: string) => void): Registry {
  const { mode, named, maxTracked } = settings;
  const tracked = new Map<string, Tracked>();
  const jobs = new Set<WatchedJob>();
  const idle = new Set<Tracked>(); // roots that have not begun: they can be forgotten until they do
  const queues = new Map(named.map((queue) => [queue.base, queue]));
  const isNamed = new Set(named.map(({ base }) => base));
  /** The run in which a job ended. */
  const over = new Recent<number>(REMEMBERED);
  /** Jobs that are nobody's here: of other flows, or of ids that cannot be shown. */
  const foreign = new Recent<true>(REMEMBERED);
  /** How many of the tracked are part of a watched job. */
  let kept = 0;
  let wasFull = false;

  /** Whether a root may be kept. For one that has `begun`, one that has not is left out. */
  function hasRoom(begun: boolean): boolean {
    if (kept < maxTracked) return true;
    if (!begun) return false;
    for (const root of idle) {
      idle.delete(root);
      if (hasBegun(root) || root.children.size > 0) continue;
      drop(root);
      return true;
    }
    if (!wasFull)
      report(`More than ${maxTracked} jobs work: further ones are left out (maxTracked).`);
    wasFull = true;
    return false;
  }

  function add(ref: JobRef, listed: boolean): Tracked {
    const isWanted = listed && isNamed.has(ref.queue.base);
    const known = tracked.get(ref.key);
    if (known) {
      known.wanted ||= isWanted;
      return known;
    }
    queues.set(ref.queue.base, ref.queue);
    const one = createTracked(ref, isWanted);
    tracked.set(ref.key, one);
    return one;
  }

  function drop(one: Tracked): void {
    if (one.job) kept -= 1;
    if (tracked.get(one.key) === one) tracked.delete(one.key);
    idle.delete(one);
    one.above = undefined;
    if (one.job?.root === one) jobs.delete(one.job);
    one.job?.unread.delete(one);
    one.job?.touched.delete(one);
    for (const descendant of one.below.splice(0)) if (!descendant.job) drop(descendant);
  }

  function disown(one: Tracked): void {
    foreign.set(one.key, true);
    for (const descendant of one.below.splice(0)) if (!descendant.job) disown(descendant);
    drop(one);
  }

  /** Names it by the host's function. What that throws or returns unfit is told once. */
  function idOf(name: (job: SourceJob) => string, one: Tracked, fits: (id: string) => boolean) {
    const job = sourceJob(one);
    try {
      const id: unknown = name(job);
      if (typeof id === "string" && fits(id)) return id;
    } catch {
      // Told below: it gave no id.
    }
    return report(
      `Job ${shown(job.id)} of queue ${job.queue} is left out: the monitor does not take its id.`,
    );
  }

  function join(one: Tracked, parent: Tracked): void {
    const job = parent.job as WatchedJob;
    one.parent = parent;
    one.above = undefined;
    one.job = job;
    parent.children.set(one.key, one);
    job.size += 1;
    kept += 1;
    job.flow = undefined;
    idle.delete(job.root);
  }

  function becomeRoot(one: Tracked): void {
    const jobId = idOf(settings.jobId, one, isJobId);
    if (jobId === undefined) return disown(one);
    if (!hasRoom(hasBegun(one) || isOver(one))) return drop(one);
    const former = over.get(one.key);
    over.delete(one.key);
    one.job = createWatchedJob(one, jobId, former);
    if (one.recalled) one.job.run = one.recalled.run;
    if (mode === "job") reopen(one.job);
    jobs.add(one.job);
    kept += 1;
    if (one.children.size === 0) idle.add(one);
  }

  return {
    tracked,
    jobs,
    queue: (base) => queues.get(base),
    add,
    disown,
    remembered(key) {
      if (over.get(key) !== undefined) return "over";
      return foreign.get(key) && "foreign";
    },

    place(one) {
      const { parentKey } = one.facts ?? {};
      if (mode === "flow" && parentKey !== undefined) {
        const ref = parseKey(parentKey, (base) => queues.get(base));
        const parent = tracked.get(parentKey);
        if (parent?.job) {
          if (parent.job.size < MOST_STAGES) join(one, parent);
          else drop(one);
          return undefined;
        }
        const ancestor = parent ?? add(ref, false);
        if (isAbove(one, ancestor)) {
          report(
            `Job ${shown(one.id)} of queue ${one.queue.name} is left out: its parents are a circle.`,
          );
          disown(one);
          return undefined;
        }
        one.above = ancestor;
        ancestor.below.push(one);
        return ancestor;
      }
      if (!isNamed.has(one.queue.base)) disown(one);
      // That what is gone was no part of a flow only mode job knows, or the monitor that has it as a job.
      else if (one.gone && !one.recalled && (mode === "flow" || !one.ending)) drop(one);
      else if (isOver(one) && !one.wanted) drop(one);
      else becomeRoot(one);
      return undefined;
    },

    grow(parent, { open, completed, failed }) {
      const job = parent.job as WatchedJob;
      const fresh: Tracked[] = [];
      const adopt = (key: string, verdict: Tracked["verdict"]) => {
        let child = parent.children.get(key);
        if (!child && job.size < MOST_STAGES) {
          const known = tracked.get(key);
          if (known?.job) return; // it was shown as a job of its own before it was adopted
          const ref = parseKey(key, (base) => queues.get(base));
          child = known ?? createTracked(ref, false);
          queues.set(ref.queue.base, ref.queue);
          tracked.set(key, child);
          join(child, parent);
          fresh.push(child);
          if (job.size === MOST_STAGES) {
            report(
              `Job ${job.jobId} has more than ${MOST_STAGES} descendants: the others are left out.`,
            );
          }
        }
        if (child) child.verdict = verdict;
      };
      for (const key of open) adopt(key, undefined);
      for (const key of completed) adopt(key, "completed");
      for (const key of failed) adopt(key, "failed");
      return fresh;
    },

    nameStage(one) {
      const job = one.job as WatchedJob;
      job.flow = undefined;
      one.stage = null;
      const stage = idOf(settings.stageId, one, isStageId);
      if (stage === undefined) return;
      if ((job.stageIds.get(stage) ?? one.key) !== one.key) {
        return report(
          `Job ${job.jobId} has two stages ${stage}: the second is left out (stageId).`,
        );
      }
      job.stageIds.set(stage, one.key);
      one.stage = stage;
    },

    detach(one) {
      one.gone = true;
      one.ending = undefined;
      if (tracked.get(one.key) === one) tracked.delete(one.key);
    },

    below,
    end(job) {
      for (const one of [...below(job), job.root]) {
        over.set(one.key, one === job.root ? (job.run ?? 1) : 1);
        drop(one);
      }
      wasFull = false;
    },
  };
}

/** Whether a job is, or leads to, its own ancestor. */
function isAbove(one: Tracked, ancestor: Tracked): boolean {
  let above: Tracked | undefined = ancestor;
  while (above && above !== one) above = above.above;
  return above === one;
}

function below({ root }: WatchedJob): Tracked[] {
  const all = [...root.children.values()];
  for (const one of all) all.push(...one.children.values());
  return all;
}
