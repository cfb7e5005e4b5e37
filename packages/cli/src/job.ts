import type {
  JobSnapshot,
  JobSummary,
  PublicError,
  StageSnapshot,
  Status,
} from "@org/workflow-monitor-client";
import { MonitorClientError } from "@org/workflow-monitor-client";

/** The first three are not terminal. */
export const STATUSES: readonly Status[] = [
  "pending",
  "running",
  "waiting",
  "completed",
  "failed",
  "cancelled",
  "skipped",
];

export const isStatus = (value: unknown): value is Status => STATUSES.includes(value as Status);

const isTerminal = (status: Status): boolean => STATUSES.indexOf(status) >= 3;

type Fields = Readonly<Record<string, unknown>>;

/**
 * A job as people are shown it. A host may leave fields out, or give jobs a shape of its own (SPEC R16):
 * a field that is missing or of another type counts as not known; an unknown `updatedAt` is empty.
 *
 * @param jobId what was asked for: a shape may leave it out
 * @throws MonitorClientError `bad_answer` for a job without a status: there is nothing to show
 */
export function readJob(given: unknown, jobId: string): JobSnapshot {
  const job = fieldsOf(given);
  const { status } = job;
  if (!isStatus(status)) {
    throw new MonitorClientError(
      "bad_answer",
      "The server shows jobs in a shape of its own, without a status: --json prints it as it is.",
    );
  }
  const stages = (Array.isArray(job.stages) ? job.stages : []).flatMap(readStage);
  const progress = number(job.progress);
  return {
    ...readCommon(job, status),
    jobId: text(job.jobId) ?? jobId,
    name: text(job.name),
    run: number(job.run) ?? 1,
    done: typeof job.done === "boolean" ? job.done : isTerminal(status),
    planned: job.planned === true,
    derived: job.derived === true,
    progress: progress ?? 0,
    indeterminate: job.indeterminate === true || progress === null,
    currentStage: text(job.currentStage),
    activeStages: [],
    counts: countsOf(job.counts, stages),
    stages,
    labels: {},
    createdAt: time(job.createdAt) ?? "",
    epoch: "",
    revision: 0,
  };
}

/** A stage as people are shown it; none of what has no id or no status. */
export function readStage(given: unknown): StageSnapshot[] {
  const fields = fieldsOf(given);
  const { status } = fields;
  const stage = text(fields.stage);
  if (stage === null || !isStatus(status)) return [];
  const progress = number(fields.progress);
  return [
    {
      ...readCommon(fields, status),
      stage,
      name: text(fields.name) ?? stage,
      progress: progress ?? 0,
      indeterminate: fields.indeterminate === true || progress === null,
      weight: 1,
      dependsOn: [],
      attempt: number(fields.attempt) ?? 1,
      maxAttempts: number(fields.maxAttempts),
      allowFailure: fields.allowFailure === true,
      planned: fields.planned === true,
      attempts: [],
    },
  ];
}

/** What jobs and stages have in common. */
const readCommon = (fields: Fields, status: Status) => ({
  status,
  reason: text(fields.reason),
  message: text(fields.message),
  error: errorOf(fields.error),
  metadata: null,
  startedAt: time(fields.startedAt),
  finishedAt: time(fields.finishedAt),
  updatedAt: time(fields.updatedAt) ?? "",
});

function errorOf(given: unknown): PublicError | null {
  const { code, message } = fieldsOf(given);
  return typeof code === "string" || typeof message === "string"
    ? { code: text(code) ?? "", message: text(message) ?? "" }
    : null;
}

/** How many stages there are of each status: as the server says, else those that are shown. */
function countsOf(given: unknown, stages: readonly StageSnapshot[]): JobSummary["counts"] {
  const told = fieldsOf(given);
  const count = (status: Status) =>
    number(told[status]) ?? stages.filter((stage) => stage.status === status).length;
  const counts = Object.fromEntries(STATUSES.map((status) => [status, count(status)]));
  return { total: number(told.total) ?? stages.length, ...counts } as JobSummary["counts"];
}

const fieldsOf = (given: unknown): Fields =>
  typeof given === "object" && given !== null ? (given as Fields) : {};

const text = (given: unknown): string | null => (typeof given === "string" ? given : null);

const number = (given: unknown): number | null =>
  typeof given === "number" && Number.isFinite(given) ? given : null;

/** Written anew: `Date.parse` ignores what stands in parentheses. */
function time(given: unknown): string | null {
  const at = new Date(typeof given === "string" ? given : Number.NaN);
  return Number.isNaN(at.getTime()) ? null : at.toISOString();
}
