import { randomBytes } from "node:crypto";
import { WorkflowMonitorError } from "./errors.js";
import { type Clock, type Logger, resolveClock, silentLogger } from "./host.js";
import { JobLog } from "./job-log.js";
import { JobOrder } from "./job-order.js";
import { defaultLimits } from "./limits.js";
import { type Batch, type Cursor, sameCursor } from "./revision.js";
import { type JobState, type JobSummary, toSummary } from "./snapshot.js";
import type { Announced, JobRecord, JobStore, ListQuery } from "./store.js";

/** Options of `memoryStore`. */
export interface MemoryStoreOptions {
  /** Jobs kept; over it the oldest done jobs go first, then the oldest others. SPEC R15. @default 10_000 */
  jobs?: number;
  /** Event text kept for each job, in bytes. @default 1 MiB */
  historyBytes?: number;
  /**
   * Memory of all jobs together, in bytes: event texts, heads and what the store needs for them. Over it the
   * history of done jobs goes first, then done jobs, then the history of others, then those silent longest.
   * SPEC R15. @default 256 MiB
   */
  totalBytes?: number;
  /** History younger than this stays, up to 8 times `historyBytes`, in milliseconds. @default 30_000 */
  keepMs?: number;
  /** pino's shape: told when jobs that are not over lose something. @default silent */
  logger?: Logger;
  /** As the monitor's `clock`. @default this machine's */
  clock?: Partial<Clock>;
}

/** So many former epochs are remembered. */
const CARRIED = 16;
const SWEEP_MS = 60_000;
/** Jobs that one call of `list` looks at. */
const LOOKED_AT = 1_000;
/** Over its limit the store makes room for more than the next batch: it looks through its jobs rarely. */
const ROOM = 1 / 16;
const WARN_AGAIN_MS = 60_000;

/**
 * The embedded store: the logs of one process, in its memory.
 *
 * @example
 * createWorkflowMonitor({ authorize, store: memoryStore({ totalBytes: 64 * 1024 * 1024 }) });
 */
export function memoryStore(options: MemoryStoreOptions = {}): JobStore {
  const {
    jobs: maxJobs = defaultLimits.jobs,
    historyBytes = defaultLimits.historyBytes,
    totalBytes = defaultLimits.totalBytes,
    keepMs = 30_000,
    logger = silentLogger,
  } = options;
  const clock = resolveClock(options.clock);
  // Maps keep insertion order: a log that is appended to moves to the end, the oldest is first.
  const live = new Map<string, JobLog>();
  const done = new Map<string, JobLog>();
  const order = new JobOrder<JobLog>();
  const followers = new Map<string, Set<(batch: Announced) => void>>();
  const secret = randomBytes(32);
  /** Of all logs. */
  let bytes = 0;
  let warnedAt = Number.NEGATIVE_INFINITY;
  let cancelSweep: (() => void) | undefined;
  let closed = false;

  function assertOpen(): void {
    if (closed) throw new WorkflowMonitorError("closed", "The store is closed.");
  }

  function find(jobId: string, now: number): JobLog | undefined {
    const log = live.get(jobId) ?? done.get(jobId);
    if (!log || now < log.forgetAt) return log;
    forget(log);
    return undefined;
  }

  function forget(log: JobLog): void {
    live.delete(log.jobId);
    done.delete(log.jobId);
    order.remove(log);
    bytes -= log.bytes;
  }

  function sweep(): void {
    cancelSweep = undefined;
    const now = clock.monotonic();
    for (const logs of [done, live])
      for (const log of logs.values()) if (now >= log.forgetAt) forget(log);
    scheduleSweep();
  }

  function scheduleSweep(): void {
    if (cancelSweep || closed || live.size + done.size === 0) return;
    cancelSweep = clock.setTimeout(sweep, SWEEP_MS);
  }

  // ── its limits ─────────────────────────────────────────────────────────────────────────────────

  /** Lets go of the least that is missed, but not of the log that was just written. */
  function makeRoom(written: JobLog, now: number): void {
    if (live.size + done.size <= maxJobs && bytes <= totalBytes) return;
    const drop = (log: JobLog) => log !== written && forget(log);
    const shed = (log: JobLog, youngSince: number) => {
      const before = log.bytes;
      log.shed(youngSince);
      bytes += log.bytes - before;
    };
    const tooMany = () => live.size + done.size > maxJobs;
    letGo(done, drop, tooMany);
    if (letGo(live, drop, tooMany)) warn("jobs", now);

    if (bytes <= totalBytes) return;
    const tooMuch = () => bytes > totalBytes * (1 - ROOM);
    letGo(done, (log) => shed(log, now), tooMuch);
    letGo(done, drop, tooMuch);
    const lost = [
      letGo(live, (log) => shed(log, now - keepMs), tooMuch),
      letGo(live, (log) => shed(log, now), tooMuch),
      letGo(live, drop, tooMuch),
    ];
    if (lost.includes(true)) warn("totalBytes", now);
  }

  /** Goes through logs, the oldest first, while there is need; true when there was. */
  function letGo(
    logs: Map<string, JobLog>,
    act: (log: JobLog) => unknown,
    isNeeded: () => boolean,
  ): boolean {
    const wasNeeded = isNeeded() && logs.size > 0;
    for (const log of logs.values()) {
      if (!isNeeded()) break;
      act(log);
    }
    return wasNeeded;
  }

  function warn(limit: "jobs" | "totalBytes", now: number): void {
    if (now < warnedAt + WARN_AGAIN_MS) return;
    warnedAt = now;
    const kept = { jobs: live.size + done.size, bytes, limit };
    logger.warn(kept, `the memory store is full of jobs that are not over: raise limits.${limit}`);
  }

  // ── writing ────────────────────────────────────────────────────────────────────────────────────

  function write(log: JobLog, batch: Batch): Cursor {
    const now = clock.monotonic();
    const { jobId, createdAt, done: isDone } = batch.job;
    const known = live.get(jobId) ?? done.get(jobId);
    const before = known?.bytes ?? 0;
    log.append(batch, now);
    log.trim(historyBytes, now - keepMs);
    bytes += log.bytes - before;
    live.delete(jobId);
    done.delete(jobId);
    if (known !== log || log.createdAt !== createdAt) {
      if (known) order.remove(known);
      log.createdAt = createdAt;
      order.add(log);
    }
    (isDone ? done : live).set(jobId, log);
    makeRoom(log, now);
    scheduleSweep();
    return log.cursor;
  }

  return {
    read(jobId, after) {
      assertOpen();
      const now = clock.monotonic();
      const log = find(jobId, now);
      if (!log) return undefined;
      const record: JobRecord = { cursor: log.cursor };
      if (!after || !sameCursor(after, log.cursor)) record.job = log.job;
      if (after) {
        const known = after.epoch === log.cursor.epoch ? after.revision : 0;
        record.events = log.last(Math.max(0, log.cursor.revision - known));
      }
      if (log.carried) record.carried = log.carried;
      if (now >= log.expiresAt) record.expired = true;
      return record;
    },

    async append(jobId, base, batch) {
      assertOpen();
      const stored = find(jobId, clock.monotonic());
      if (stored && (base === null || !sameCursor(base, stored.cursor))) return false;
      const log = stored && !batch.carries ? stored : newLog(batch, base, stored);
      const cursor = write(log, batch);
      const note = { cursor, revisions: batch.revisions, id: batch.id };
      for (const listener of [...(followers.get(jobId) ?? [])]) listener(note);
      return cursor;
    },

    async find(jobId, batchId) {
      assertOpen();
      return find(jobId, clock.monotonic())?.find(batchId);
    },

    async follow(jobId, listener) {
      assertOpen();
      // A function of its own, so that one listener may follow twice.
      const follower = (batch: Announced) => listener(batch);
      const all = followers.get(jobId) ?? new Set();
      followers.set(jobId, all.add(follower));
      return () => {
        all.delete(follower);
        if (all.size === 0 && followers.get(jobId) === all) followers.delete(jobId);
      };
    },

    async list(query) {
      assertOpen();
      const now = clock.monotonic();
      const fits = filter(query);
      const jobs: JobSummary[] = [];
      let looked = 0;
      let last: JobLog | undefined;
      for (const log of order.behind(query.after)) {
        // `last` is there, unless the limit is 0.
        if (last && (jobs.length >= query.limit || looked === LOOKED_AT))
          return { jobs, next: { createdAt: last.createdAt, jobId: last.jobId } };
        if (now < log.expiresAt && fits(log.job)) jobs.push(toSummary(log.job, log.cursor));
        looked += 1;
        last = log;
      }
      return { jobs, next: null };
    },

    async secret() {
      assertOpen();
      return secret;
    },

    storedBytes: () => bytes,

    async health() {
      assertOpen();
    },

    async close() {
      closed = true;
      cancelSweep?.();
      live.clear();
      done.clear();
      order.clear();
      followers.clear();
      bytes = 0;
    },
  };
}

/** Another life of a job's log, which contains what `base`, the batch and a former log are known to. */
function newLog({ job, carries }: Batch, base: Cursor | null, former: JobLog | undefined): JobLog {
  const carried = [...(former?.carried ?? []), base, carries].filter((cursor) => cursor != null);
  return new JobLog(newEpoch(), job, carried.length > 0 ? carried.slice(-CARRIED) : undefined);
}

function filter({ status, labels = {} }: ListQuery): (job: JobState) => boolean {
  const wanted = Object.entries(labels);
  return (job) =>
    (status === undefined || job.status === status) &&
    wanted.every(([key, value]) => Object.hasOwn(job.labels, key) && job.labels[key] === value);
}

/** 12 characters of [a-z0-9]; 62 bits, so that two lives of a log never share one. */
function newEpoch(): string {
  let epoch = "";
  while (epoch.length < 12) {
    for (const byte of randomBytes(16)) {
      // 252 is the largest multiple of 36 in a byte: every character is equally likely.
      if (byte < 252 && epoch.length < 12) epoch += (byte % 36).toString(36);
    }
  }
  return epoch;
}
