import { WorkflowMonitorError } from "./errors.js";
import type { NormalJobEvent, NormalPlanEvent, NormalStageEvent, WorkflowEvent } from "./events.js";
import { planProgress } from "./progress.js";
import type { Counts, JobState, StageSnapshot } from "./snapshot.js";
import { isActive, isTerminal, type Status } from "./status.js";

const MAX_ATTEMPTS_KEPT = 10;
const MAX_ACTIVE_SHOWN = 20;

/**
 * The fold: what a job is after an event. Pure; an event that changes nothing returns the same
 * reference (SPEC R2). Throws `refused` when the event would add a stage too many (SPEC R13).
 *
 * A draft is copied, the event's part is applied to it, and then what follows from the stages is
 * concluded in one place: status (R8), the sweep at the end (R9), progress (R7), current stage (R6).
 */
export function reduce(before: JobState, event: WorkflowEvent, maxStages = 5_000): JobState {
  const { run } = event;
  if (run !== undefined && run < before.run) return before; // R3: of a former run
  const next = run !== undefined && run > before.run ? run : nextRunByItself(before, event);
  if (before.done && next === undefined) return before; // R3: the end is the end

  const draft = { ...before };
  if (next !== undefined) restart(draft, next);
  if (event.type === "stage") applyStage(draft, event, maxStages);
  else if (event.type === "job") applyJob(draft, event);
  else applyPlan(draft, event, maxStages);
  conclude(draft, event.timestamp);

  if (!differs(before, draft)) return before;
  draft.updatedAt = later(before.updatedAt, event.timestamp);
  return draft;
}

/** R8: after a concluded end, a higher attempt of a stage is the next run, without anybody saying so. */
function nextRunByItself(job: JobState, event: WorkflowEvent): number | undefined {
  if (!job.done || !job.derived || event.type !== "stage") return undefined;
  const stage = job.stages.find(({ stage }) => stage === event.stage);
  return stage && (event.attempt ?? 1) > stage.attempt ? job.run + 1 : undefined;
}

/** R3: planned stages are pending again, the others were of the former run. */
function restart(draft: JobState, run: number): void {
  draft.run = run;
  draft.status = "pending";
  draft.done = false;
  draft.derived = true;
  draft.reason = null;
  draft.message = null;
  draft.error = null;
  draft.startedAt = null;
  draft.finishedAt = null;
  draft.progress = 0;
  draft.indeterminate = !draft.planned;
  draft.stages = draft.stages
    .filter((stage) => stage.planned)
    .map((stage) => ({
      ...stage,
      ...freshAttempt,
      attempt: 1,
      attempts: [],
      message: null,
      metadata: null,
    }));
}

const freshAttempt = {
  status: "pending",
  reason: null,
  progress: 0,
  indeterminate: false,
  startedAt: null,
  finishedAt: null,
  error: null,
} as const satisfies Partial<StageSnapshot>;

function newStage(stage: string, timestamp: string): StageSnapshot {
  return {
    stage,
    name: stage,
    status: "pending",
    reason: null,
    progress: 0,
    indeterminate: false,
    weight: 1,
    dependsOn: [],
    attempt: 1,
    maxAttempts: null,
    allowFailure: false,
    planned: false,
    attempts: [],
    startedAt: null,
    finishedAt: null,
    updatedAt: timestamp,
    message: null,
    error: null,
    metadata: null,
  };
}

/** R5: a plan reorders, adds, and removes the pending stages that it does not name. */
function applyPlan(draft: JobState, event: NormalPlanEvent, maxStages: number): void {
  const known = new Map(draft.stages.map((stage) => [stage.stage, stage]));
  const stages = event.stages.map((planned) => {
    const stage = known.get(planned.stage) ?? newStage(planned.stage, event.timestamp);
    known.delete(planned.stage);
    return changed(stage, { ...stage, ...planned, planned: true }, event.timestamp);
  });
  for (const stage of known.values()) {
    if (stage.status === "pending") continue;
    stages.push(changed(stage, { ...stage, planned: false }, event.timestamp));
  }
  limitStages(stages.length, maxStages);
  if (stages.length !== draft.stages.length || stages.some((s, at) => s !== draft.stages[at])) {
    draft.stages = stages;
  }
  draft.planned = true;
  if (event.name !== undefined) draft.name = event.name;
  describe(draft, event);
}

function applyJob(draft: JobState, event: NormalJobEvent): void {
  const { status } = event;
  state(draft, status, event);
  // R8: any word but `pending` hands the end to the engine.
  if (status !== undefined && status !== "pending") draft.derived = false;
  if (typeof event.progress === "number" && !draft.planned) {
    draft.progress = Math.max(draft.progress, Math.min(event.progress, 99));
    draft.indeterminate = false;
  }
  tell(draft, event);
  describe(draft, event);
}

function applyStage(draft: JobState, event: NormalStageEvent, maxStages: number): void {
  const at = draft.stages.findIndex(({ stage }) => stage === event.stage);
  const before = draft.stages[at] ?? {
    ...newStage(event.stage, event.timestamp),
    attempt: event.attempt ?? 1,
  };
  const attempt = event.attempt ?? before.attempt;
  if (attempt < before.attempt) return; // R3: of a former attempt
  const stage = { ...before };
  if (attempt > before.attempt) beginAttempt(stage, attempt, event.timestamp);
  else if (isTerminal(stage.status)) return; // R3: the end of an attempt is its end

  const known = stage.progress > 0 || (isActive(stage.status) && !stage.indeterminate);
  state(stage, impliedStatus(stage, event), event);
  if (typeof event.progress === "number") stage.progress = Math.max(stage.progress, event.progress);
  if (stage.status === "completed") stage.progress = 100;
  stage.indeterminate = isActive(stage.status) && !known && typeof event.progress !== "number";
  tell(stage, event);
  if (event.metadata !== undefined) stage.metadata = same(stage.metadata, event.metadata);

  if (at === -1) {
    limitStages(draft.stages.length + 1, maxStages);
    draft.stages = [...draft.stages, stage]; // R5: an unknown stage joins the plan
  } else {
    const next = changed(before, stage, event.timestamp);
    if (next !== before) draft.stages = draft.stages.with(at, next);
  }
}

/** Progress on a stage that nobody started: it is running. R7. */
function impliedStatus(stage: StageSnapshot, { status, progress }: NormalStageEvent) {
  const begins = stage.status === "pending" && progress !== undefined;
  return begins && (status ?? "pending") === "pending" ? "running" : status;
}

/** R10: a new attempt; the old one is archived, as superseded if it was still active. */
function beginAttempt(stage: StageSnapshot, attempt: number, timestamp: string): void {
  if (stage.status !== "pending") {
    const over = isTerminal(stage.status)
      ? { status: stage.status, reason: stage.reason, finishedAt: stage.finishedAt }
      : { status: "failed" as const, reason: "superseded", finishedAt: timestamp };
    const archived = { attempt: stage.attempt, startedAt: stage.startedAt, ...over };
    stage.attempts = [...stage.attempts, archived].slice(-MAX_ATTEMPTS_KEPT);
  }
  Object.assign(stage, freshAttempt, { attempt });
}

/** What an event says of the status. What started does not become pending again: that word was late. R4. */
function state(
  subject: JobState | StageSnapshot,
  status: Status | undefined,
  event: NormalJobEvent | NormalStageEvent,
): void {
  if (status === undefined || status === subject.status) {
    if (event.reason !== undefined) subject.reason = event.reason;
  } else if (status !== "pending") setStatus(subject, status, event);
}

function setStatus(
  subject: JobState | StageSnapshot,
  status: Status,
  event: { timestamp: string; reason?: string | null },
): void {
  subject.status = status;
  subject.reason = event.reason ?? null;
  if (isActive(status)) subject.startedAt ??= event.timestamp;
  if (isTerminal(status)) subject.finishedAt = event.timestamp;
}

function tell(subject: JobState | StageSnapshot, event: NormalJobEvent | NormalStageEvent): void {
  if (event.message !== undefined) subject.message = event.message;
  if (event.error !== undefined) subject.error = same(subject.error, event.error);
}

function describe(draft: JobState, event: NormalJobEvent | NormalPlanEvent): void {
  if (event.labels !== undefined) draft.labels = same(draft.labels, event.labels ?? {});
  if (event.metadata !== undefined) draft.metadata = same(draft.metadata, event.metadata);
}

/** What follows from the stages, whatever changed them; `draft` is written to. */
export function conclude(draft: JobState, timestamp: string): void {
  if (draft.derived && !draft.done) derive(draft, timestamp);
  draft.done = isTerminal(draft.status);
  if (draft.done) sweep(draft, timestamp);

  if (draft.status === "completed") draft.progress = 100;
  else if (!draft.done && draft.planned) {
    draft.progress = Math.max(draft.progress, Math.min(planProgress(draft.stages), 99));
  }
  if (draft.done || draft.planned) draft.indeterminate = false;
  point(draft);
}

/** R8: the status that the stages imply. */
function derive(draft: JobState, timestamp: string): void {
  const { stages } = draft;
  const begun = ({ status }: StageSnapshot) => status !== "pending" && status !== "skipped";
  if (draft.status === "pending" && stages.some(begun)) setStatus(draft, "running", { timestamp });
  if (!draft.planned || stages.length === 0) return;
  let end: Status = "completed";
  for (const stage of stages) {
    const { status } = stage;
    if (!isTerminal(status)) return;
    if (status === "failed") {
      if (stage.maxAttempts !== null && stage.attempt < stage.maxAttempts) return;
      if (!stage.allowFailure) end = "failed";
    } else if (status === "cancelled" && end === "completed") end = "cancelled";
  }
  setStatus(draft, end, { timestamp });
}

/** R9: when a job ends, nothing of it says "running" for ever. */
function sweep(draft: JobState, timestamp: string): void {
  if (draft.stages.every(({ status }) => isTerminal(status))) return;
  draft.stages = draft.stages.map((stage) => {
    if (isTerminal(stage.status)) return stage;
    const swept = { ...stage, indeterminate: false, updatedAt: later(stage.updatedAt, timestamp) };
    if (stage.status === "pending") setStatus(swept, "skipped", { timestamp, reason: "not_run" });
    else if (draft.status === "completed") {
      setStatus(swept, "completed", { timestamp, reason: "implied" });
      swept.progress = 100;
    } else setStatus(swept, "cancelled", { timestamp, reason: `job_${draft.status}` });
    return swept;
  });
}

/** R6: where the job is. */
function point(draft: JobState): void {
  const counts = { ...zero, total: draft.stages.length };
  const active: string[] = [];
  let firstActive: string | null = null;
  let firstFailed: string | null = null;
  for (const { stage, status } of draft.stages) {
    counts[status] += 1;
    if (isActive(status)) {
      firstActive ??= stage;
      if (active.length < MAX_ACTIVE_SHOWN) active.push(stage);
    } else if (status === "failed") firstFailed ??= stage;
  }
  draft.counts = same(draft.counts, counts);
  draft.activeStages = same(draft.activeStages, active);
  draft.currentStage = firstActive ?? (draft.status === "failed" ? firstFailed : null);
}

const zero: Counts = {
  total: 0,
  pending: 0,
  running: 0,
  waiting: 0,
  completed: 0,
  failed: 0,
  cancelled: 0,
  skipped: 0,
};

function limitStages(count: number, most: number): void {
  if (count > most) {
    throw new WorkflowMonitorError("refused", `A job may have at most ${most} stages.`);
  }
}

const later = (one: string, other: string): string => (one > other ? one : other);

/** The former value if the new one is equal to it, so that equality is identity from here on. */
function same<T>(before: T, after: T): T {
  return before === after || equal(before, after) ? before : after;
}

function equal(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || !one || !other) return false;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const keys = Object.keys(one);
  return (
    keys.length === Object.keys(other).length &&
    keys.every(
      (key) =>
        Object.hasOwn(other, key) &&
        equal((one as Record<string, unknown>)[key], (other as Record<string, unknown>)[key]),
    )
  );
}

/** The new stage, newly dated, or the former one when nothing differs. */
function changed(before: StageSnapshot, after: StageSnapshot, timestamp: string): StageSnapshot {
  after.dependsOn = same(before.dependsOn, after.dependsOn);
  if (!differs(before, after)) return before;
  after.updatedAt = later(before.updatedAt, timestamp);
  return after;
}

function differs<T extends object>(before: T, after: T): boolean {
  for (const key in after) if (before[key] !== after[key]) return true;
  return false;
}
