import {
  type Connection,
  type JobSnapshot,
  MonitorClientError,
  type StageSnapshot,
  type Status,
} from "@org/workflow-monitor-client";

type Fields = Readonly<Record<string, unknown>>;
type Is = (value: unknown) => boolean;
/** For each field that is shown: what it has to be, and what counts where it is missing or something else. */
type Spec = Readonly<Record<string, readonly [is: Is, unknown: unknown]>>;

const STATUSES: readonly unknown[] = [
  "pending",
  "running",
  "waiting",
  "completed",
  "failed",
  "cancelled",
  "skipped",
] satisfies Status[];

const isObject: Is = (value) => typeof value === "object" && value !== null;
const isText: Is = (value) => typeof value === "string";
const isNumber: Is = (value) => Number.isFinite(value);
const isFlag: Is = (value) => typeof value === "boolean";
const isTime: Is = (value) => isText(value) && !Number.isNaN(Date.parse(value as string));
const isList: Is = (value) => Array.isArray(value);
const orNull =
  (is: Is): Is =>
  (value) =>
    value === null || is(value);

const text = [orNull(isText), null] as const;
const time = [orNull(isTime), null] as const;
const common: Spec = {
  reason: text,
  progress: [isNumber, 0],
  indeterminate: [isFlag, true],
  message: text,
  error: [orNull(isObject), null],
  startedAt: time,
  finishedAt: time,
};
const jobSpec: Spec = {
  ...common,
  name: text,
  run: [isNumber, 1],
  done: [isFlag, false],
  currentStage: text,
  stages: [isList, []],
};
const stageSpec: Spec = {
  ...common,
  dependsOn: [isList, []],
  attempt: [isNumber, 1],
  maxAttempts: [orNull(isNumber), null],
  attempts: [isList, []],
};

/** The same object when it lacks nothing. */
function complete<T extends object>(given: T, spec: Spec): T {
  const missing = Object.entries(spec).filter(([key, [is]]) => !is((given as Fields)[key]));
  if (missing.length === 0) return given;
  return { ...given, ...Object.fromEntries(missing.map(([key, [, unknown]]) => [key, unknown])) };
}

/** Most stages are the same objects as before. */
const whole = new WeakSet<StageSnapshot>();

function readStage(given: StageSnapshot): StageSnapshot[] {
  if (whole.has(given)) return [given];
  if (!isObject(given) || !isText(given.stage) || !STATUSES.includes(given.status)) return [];
  const stage = complete(given, { ...stageSpec, name: [isText, given.stage] });
  whole.add(stage);
  return [stage];
}

/**
 * A job as elements show it. A host may leave fields out, or give jobs a shape of its own (SPEC R16): a field
 * that is missing or of another type counts as not known.
 *
 * @param jobId what is watched: a shape may leave it out
 * @returns the same object when nothing is missing; null for a job without a status: there is nothing to show
 */
export function readJob(given: JobSnapshot, jobId: string): JobSnapshot | null {
  if (!isObject(given) || !STATUSES.includes(given.status)) return null;
  const job = complete(given, {
    ...jobSpec,
    jobId: [isText, jobId],
    updatedAt: [isTime, new Date().toISOString()],
    counts: [isObject, null],
  });
  const stages = job.stages.flatMap(readStage);
  const isSame = stages.length === job.stages.length && stages.every((s, i) => s === job.stages[i]);
  if (isSame && job.counts) return job;
  return { ...job, stages, counts: job.counts ?? countsOf(stages) };
}

function countsOf(stages: readonly StageSnapshot[]): JobSnapshot["counts"] {
  const count = (status: unknown) => stages.filter((stage) => stage.status === status).length;
  const counts = Object.fromEntries(STATUSES.map((status) => [status, count(status)]));
  return { total: stages.length, ...counts } as JobSnapshot["counts"];
}

/** How elements are connected to a job that they cannot show. */
export const notShown = (): Connection & { cause: MonitorClientError } => ({
  state: "failed",
  transport: null,
  cause: new MonitorClientError(
    "bad_answer",
    "The server shows jobs in a shape of its own, which has no status to show.",
  ),
  retryAt: null,
  stale: false,
});
