import { randomBytes } from "node:crypto";
import { WorkflowMonitorError } from "./errors.js";
import { type Clock, resolveClock } from "./host.js";
import { defaultLimits, HISTORY_STRETCH } from "./limits.js";
import { type Batch, type Cursor, sameCursor } from "./revision.js";
import type { JobState, JobSummary } from "./snapshot.js";
import type { Announced, JobPage, JobQuery, JobRecord, JobStore } from "./store.js";

export interface MemoryStoreOptions {
  /** Jobs kept. Default 10,000; over it the oldest done jobs go first, then the oldest others. SPEC R15. */
  jobs?: number;
  /** Event text kept for each job, in bytes. Default 1 MiB. */
  historyBytes?: number;
  /** History younger than this stays, up to 8 times `historyBytes`. Default 30,000. */
  keepMs?: number;
  /** As the monitor's `clock`. Default: this machine's. */
  clock?: Partial<Clock>;
}

/** One job's log: its head and the texts of its last events. */
interface Log {
  cursor: Cursor;
  /** What this epoch was built on. */
  carried?: Cursor[];
  job: JobState;
  events: string[];
  /** Where each ends, how many events and bytes it has, when it came. */
  batches: { id: string; end: number; events: number; bytes: number; at: number }[];
  bytes: number;
  /** Readable until then; a done job is remembered for as long again. */
  expiresAt: number;
  forgetAt: number;
}

/** So many batches can be found by their id. */
const FINDABLE = 64;
/** So many former epochs are remembered. */
const CARRIED = 16;
const SWEEP_MS = 60_000;

/** The embedded store: the logs of one process, in its memory. */
export function memoryStore(options: MemoryStoreOptions = {}): JobStore {
  const {
    jobs: maxJobs = defaultLimits.jobs,
    historyBytes = defaultLimits.historyBytes,
    keepMs = 30_000,
  } = options;
  const clock = resolveClock(options.clock);
  // Maps keep insertion order: a log that is appended to moves to the end, the oldest is first.
  const live = new Map<string, Log>();
  const done = new Map<string, Log>();
  const followers = new Map<string, Set<(batch: Announced) => void>>();
  let cancelSweep: (() => void) | undefined;
  let closed = false;

  function assertOpen(): void {
    if (closed) throw new WorkflowMonitorError("closed", "The store is closed.");
  }

  function find(jobId: string, now: number): Log | undefined {
    const log = live.get(jobId) ?? done.get(jobId);
    if (!log || now < log.forgetAt) return log;
    forget(jobId);
    return undefined;
  }

  function forget(jobId: string): void {
    live.delete(jobId);
    done.delete(jobId);
  }

  function sweep(): void {
    cancelSweep = undefined;
    const now = clock.monotonic();
    for (const logs of [done, live]) {
      for (const [jobId, log] of logs) if (now >= log.forgetAt) logs.delete(jobId);
    }
    scheduleSweep();
  }

  function scheduleSweep(): void {
    if (cancelSweep || closed || live.size + done.size === 0) return;
    cancelSweep = clock.setTimeout(sweep, SWEEP_MS);
  }

  function makeRoom(): void {
    while (live.size + done.size > maxJobs) {
      const oldest = done.keys().next().value ?? live.keys().next().value;
      if (oldest === undefined) return;
      forget(oldest);
    }
  }

  function trim(log: Log, now: number): void {
    let spare = 0;
    let count = 0;
    for (const batch of log.batches) {
      const rest = log.bytes - spare - batch.bytes;
      const young = batch.at > now - keepMs && rest < historyBytes * (HISTORY_STRETCH - 1);
      if (rest < historyBytes || young) break;
      spare += batch.bytes;
      count += 1;
    }
    // Shifting an array costs its length: only when it is worth it.
    if (count === 0 || spare < historyBytes / 8) return;
    const gone = log.batches.splice(0, count);
    log.events.splice(
      0,
      gone.reduce((sum, batch) => sum + batch.events, 0),
    );
    log.bytes -= spare;
  }

  function write(jobId: string, log: Log, batch: Batch): Cursor {
    const now = clock.monotonic();
    let bytes = 0;
    for (const { event } of batch.revisions) {
      bytes += Buffer.byteLength(event);
      log.events.push(event);
    }
    const { epoch, revision } = log.cursor;
    const end = revision + batch.revisions.length;
    log.batches.push({ id: batch.id, end, events: batch.revisions.length, bytes, at: now });
    log.bytes += bytes;
    log.job = batch.job;
    log.cursor = { epoch, revision: end };
    log.expiresAt = now + batch.ttlMs;
    log.forgetAt = batch.job.done ? log.expiresAt + batch.ttlMs : log.expiresAt;
    forget(jobId);
    (batch.job.done ? done : live).set(jobId, log);
    makeRoom();
    scheduleSweep();
    trim(log, now);
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
        const missed = Math.max(0, log.cursor.revision - known);
        record.events = missed === 0 ? [] : log.events.slice(-missed);
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
      const cursor = write(jobId, log, batch);
      const note = { cursor, revisions: batch.revisions, id: batch.id };
      for (const listener of [...(followers.get(jobId) ?? [])]) listener(note);
      return cursor;
    },

    async find(jobId, batchId) {
      assertOpen();
      const log = find(jobId, clock.monotonic());
      const batch = log?.batches.slice(-FINDABLE).find(({ id }) => id === batchId);
      return log && batch && { epoch: log.cursor.epoch, revision: batch.end };
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
      const logs = [...live.values(), ...done.values()].filter((log) => now < log.expiresAt);
      return page(logs, query);
    },

    async health() {
      assertOpen();
    },

    async close() {
      closed = true;
      cancelSweep?.();
      live.clear();
      done.clear();
      followers.clear();
    },
  };
}

/** Another life of a job's log, which contains what `base`, the batch and a former log are known to. */
function newLog({ job, carries }: Batch, base: Cursor | null, former: Log | undefined): Log {
  const carried = [...(former?.carried ?? []), base, carries].filter((cursor) => cursor != null);
  return {
    cursor: { epoch: newEpoch(), revision: 0 },
    ...(carried.length > 0 && { carried: carried.slice(-CARRIED) }),
    job,
    events: [],
    batches: [],
    bytes: 0,
    expiresAt: 0,
    forgetAt: 0,
  };
}

function page(logs: Log[], { status, labels, limit, cursor }: JobQuery): JobPage {
  const wanted = Object.entries(labels ?? {});
  const rows = logs
    .filter(
      ({ job }) =>
        (status === undefined || job.status === status) &&
        wanted.every(
          ([key, value]) => Object.hasOwn(job.labels, key) && job.labels[key] === value,
        ) &&
        (cursor === undefined || position(job) < cursor),
    )
    .sort((one, other) => (position(one.job) < position(other.job) ? 1 : -1));
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return {
    jobs: shown.map(summary),
    next: last && rows.length > shown.length ? position(last.job) : null,
  };
}

/** Sorts as (createdAt, jobId) does. */
const position = ({ createdAt, jobId }: JobState): string => `${createdAt} ${jobId}`;

function summary({ job, cursor }: Log): JobSummary {
  const { stages, ...rest } = job;
  return { ...rest, ...cursor };
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
