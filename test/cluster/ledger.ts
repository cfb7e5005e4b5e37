import type { Cursor, JobSnapshot } from "@org/workflow-monitor";
import type { ToldUpdate } from "./log.js";
import { TIMEOUT_MS } from "./settings.js";

/** What was acknowledged, and must be there in the end. */
interface Acknowledged {
  what: "the job" | "the end" | "the end of a stage";
  jobId: string;
  run: number;
  stage?: string | undefined;
  status?: string;
  epoch: string;
  revision: number;
  at: number;
  /** The lives of publishers that appended at or after it: each of them brings it back. */
  known: Set<string>;
}

/** Redis lost what it had acknowledged after `from`. */
interface Loss {
  /** Left out: of all jobs. */
  jobId?: string | undefined;
  from: number;
  at: number;
  /** From then on everything was at rest: whoever lived had brought back what it knew. */
  restedAt: number;
}

const now = () => performance.now();

/**
 * What publishers were told is stored. It may be gone in the end only when Redis lost it and every
 * publisher that knew it was killed before it could bring it back.
 */
export class Ledger {
  readonly #acknowledged = new Map<string, Acknowledged[]>();
  readonly #killed = new Map<string, number>();
  readonly #losses: Loss[] = [];

  /** A publisher, in this life of it, appended a revision. */
  appended(life: string, update: ToldUpdate): void {
    const { jobId, run, cursor, event, end, stageEnd } = update;
    const entries = this.#acknowledged.get(jobId) ?? [];
    const record = (entry: Pick<Acknowledged, "what" | "stage" | "status">) =>
      entries.push({ ...entry, ...cursor, jobId, run, at: now(), known: new Set() });
    if (entries.length === 0) record({ what: "the job" });
    if (end) record({ what: "the end", status: end });
    if (stageEnd === "completed")
      record({ what: "the end of a stage", stage: event.stage, status: stageEnd });
    this.#acknowledged.set(jobId, entries);
    for (const entry of entries) {
      const follows = entry.epoch === cursor.epoch && entry.revision <= cursor.revision;
      const shows = entry.what === "the end" && entry.run === run && entry.status === end;
      if (follows || shows || entry.what === "the job") entry.known.add(life);
    }
  }

  /** A publisher was told that this cursor contains what it said: it knows what stands there. */
  answered(life: string, jobId: string, { epoch, revision }: Cursor): void {
    for (const entry of this.#acknowledged.get(jobId) ?? [])
      if (entry.epoch === epoch && entry.revision <= revision) entry.known.add(life);
  }

  killed(life: string): void {
    this.#killed.set(life, now());
  }

  /** Redis has lost what it acknowledged since `from` (default: everything), of one job or of all. */
  lost({ jobId, from = 0 }: { jobId?: string; from?: number }): void {
    this.#losses.push({ jobId, from, at: now(), restedAt: Number.POSITIVE_INFINITY });
  }

  rested(): void {
    for (const loss of this.#losses) loss.restedAt = Math.min(loss.restedAt, now());
  }

  /** The job may be unknown to Redis. */
  mayBeGone(jobId: string): boolean {
    return this.#acknowledged.get(jobId)?.every((entry) => this.#isGone(entry)) ?? true;
  }

  /** What was acknowledged of a job and is not there. */
  check(jobId: string, job: JobSnapshot | undefined) {
    const all = this.#acknowledged.get(jobId) ?? [];
    const missing = all.filter((entry) => !isThere(entry, job));
    const gone = missing.filter((entry) => !this.#isGone(entry));
    return {
      there: all.length - missing.length,
      gone: gone.map((entry) => print(entry, job)),
      rightlyGone: missing.length - gone.length,
    };
  }

  #isGone(entry: Acknowledged): boolean {
    return this.#losses.some(
      ({ jobId, from, at, restedAt }) =>
        (jobId === undefined || jobId === entry.jobId) &&
        from <= entry.at &&
        entry.at <= at + TIMEOUT_MS && // an acknowledgement may be this late
        [...entry.known].every((life) => (this.#killed.get(life) ?? Infinity) <= restedAt),
    );
  }
}

function isThere({ what, run, stage, status }: Acknowledged, job: JobSnapshot | undefined) {
  if (!job || what === "the job") return job !== undefined;
  if (job.run !== run) return job.run > run;
  if (what === "the end") return job.done && job.status === status;
  return job.stages.some((each) => each.stage === stage && each.status === status);
}

const print = (
  { what, jobId, run, stage, status, epoch, revision, known }: Acknowledged,
  job: JobSnapshot | undefined,
) =>
  `${what} was acknowledged and is gone: ${JSON.stringify({
    ...{ jobId, run, stage, status, cursor: `${epoch}.${revision}`, known: [...known] },
    now: job && { cursor: `${job.epoch}.${job.revision}`, run: job.run, status: job.status },
  })}`;
