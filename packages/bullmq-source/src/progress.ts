import type { ErrorInput, PlannedStage, ProgressInput, StatusInput } from "@org/workflow-monitor";

/** What a job's progress says, once it is understood. */
export interface Report {
  /** Without a stage it is told of the job itself. */
  stage?: string;
  status?: StatusInput;
  progress?: ProgressInput;
  reason?: string;
  message?: string;
  error?: ErrorInput;
  metadata?: unknown;
  /** The stages to come. */
  stages?: PlannedStage[];
}

const STATUS_WORDS: ReadonlySet<unknown> = new Set<StatusInput>([
  "pending",
  "running",
  "waiting",
  "completed",
  "failed",
  "cancelled",
  "skipped",
  "queued",
  "active",
  "in_progress",
  "success",
  "succeeded",
  "error",
  "canceled",
]);
const ENDS: ReadonlySet<unknown> = new Set<StatusInput>([
  "completed",
  "failed",
  "cancelled",
  "skipped",
  "success",
  "succeeded",
  "error",
  "canceled",
]);

/** Whether a report says that its stage is over. */
export const isEnd = (status: StatusInput | undefined): boolean => ENDS.has(status);

const MAX_ID = 128;
const MAX_STAGES = 5_000;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const UNFIT_ID = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]|^(?:__proto__|constructor|prototype)?$/;

/** Whether the monitor takes a text as a stage's id. */
export const isStageId = (value: unknown): value is string =>
  typeof value === "string" && value.length <= MAX_ID && !UNFIT_ID.test(value);

/**
 * Reads what `updateProgress` was given: a number, a numeric text, a text for people, or an object
 * of the fields of a Report, with `current` and `total` for `progress`. What is of another type is
 * left out; undefined when nothing is left. Never throws on JSON values.
 */
export function readProgress(value: unknown): Report | undefined {
  const percent = readNumber(value);
  if (percent !== undefined) return { progress: percent };
  if (typeof value === "string") return value.trim() === "" ? undefined : { message: value };
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const fields = value as Record<string, unknown>;
  const report: Report = {};
  if (fields.stage !== undefined) {
    if (!isStageId(fields.stage)) return undefined; // nobody knows whose progress it is
    report.stage = fields.stage;
    if (STATUS_WORDS.has(fields.status)) report.status = fields.status as StatusInput;
  }
  const progress = amount(fields.progress) ?? amount(fields);
  if (progress !== undefined) report.progress = progress;
  if (typeof fields.reason === "string") report.reason = fields.reason;
  if (typeof fields.message === "string") report.message = fields.message;
  const error = readError(fields.error);
  if (error !== undefined) report.error = error;
  if (fields.metadata !== undefined) report.metadata = fields.metadata;
  const stages = readStages(fields.stages);
  if (stages) report.stages = stages;
  return Object.keys(report).length > 0 ? report : undefined;
}

function readNumber(value: unknown): number | undefined {
  if (typeof value === "string" && !/^\s*[+-]?(\d+\.?\d*|\.\d+)\s*$/.test(value)) return undefined;
  if (typeof value !== "number" && typeof value !== "string") return undefined;
  const number = Number(value);
  return Number.isFinite(number) ? number : undefined;
}

/** A percentage, or `{ current, total? }`. */
function amount(value: unknown): ProgressInput | undefined {
  const percent = readNumber(value);
  if (percent !== undefined || typeof value !== "object" || value === null) return percent;
  const { current, total } = value as Record<string, unknown>;
  const done = readNumber(current);
  if (done === undefined) return undefined;
  const all = readNumber(total);
  return all === undefined ? { current: done } : { current: done, total: all };
}

function readError(value: unknown): ErrorInput | undefined {
  if (value === null || typeof value === "string") return value;
  if (typeof value !== "object") return undefined;
  const { code, message } = value as Record<string, unknown>;
  if (typeof message !== "string") return undefined;
  return typeof code === "string" ? { code, message } : { message };
}

/** Stages to come: ids, or objects with an id as `stage`; those that are neither are left out. */
function readStages(value: unknown): PlannedStage[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const stages = new Map<string, PlannedStage>();
  for (const item of value.slice(0, MAX_STAGES)) {
    const fields: Record<string, unknown> =
      typeof item === "object" && item !== null ? item : { stage: item };
    const { stage, name, weight, dependsOn, allowFailure } = fields;
    if (!isStageId(stage)) continue;
    stages.set(stage, {
      stage,
      ...(typeof name === "string" && { name }),
      ...(typeof weight === "number" && weight >= 0 && weight <= 1e9 && { weight }),
      ...(Array.isArray(dependsOn) && { dependsOn: dependsOn.filter(isStageId) }),
      ...(typeof allowFailure === "boolean" && { allowFailure }),
    });
  }
  return stages.size > 0 ? [...stages.values()] : undefined;
}

/** A report, and where it was made. */
export interface Reported extends Report {
  attempt: number;
  /** When; milliseconds since 1970. */
  at: number | undefined;
}

/** A burst of reports as few: what only moves one stage on is taken together. */
export function coalesce(reports: readonly Reported[]): Reported[] {
  const few: Reported[] = [];
  for (const report of reports) {
    const last = few.at(-1);
    const goesOn =
      last !== undefined &&
      last.stage === report.stage &&
      last.attempt === report.attempt &&
      !last.stages &&
      !report.stages &&
      !isEnd(last.status) &&
      (report.status === undefined || report.status === last.status);
    if (goesOn) few[few.length - 1] = { ...last, ...report };
    else few.push(report);
  }
  return few;
}
