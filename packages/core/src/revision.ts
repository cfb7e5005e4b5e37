import type { JobSnapshot, JobState } from "./snapshot.js";

/** A place in a job's log: `revision` events of `epoch` (12 of [a-z0-9], one life of the stored log). */
export interface Cursor {
  readonly epoch: string;
  readonly revision: number;
}

/** Before the first revision of any log: reading after it gives all the history there is. */
export const ORIGIN: Cursor = { epoch: "", revision: 0 };

export const printCursor = ({ epoch, revision }: Cursor): string => `${epoch}.${revision}`;

/** The cursor that a text of the form `<epoch>.<revision>` stands for; undefined for anything else. */
export function parseCursor(text: unknown): Cursor | undefined {
  if (typeof text !== "string") return undefined;
  // 15 digits: every such number is exact.
  const [, epoch, revision] = /^([a-z0-9]{12})\.(0|[1-9]\d{0,14})$/.exec(text) ?? [];
  return epoch ? { epoch, revision: Number(revision) } : undefined;
}

export const sameCursor = (one: Cursor, other: Cursor): boolean =>
  one.revision === other.revision && one.epoch === other.epoch;

/**
 * What a revision changed: the changed top-level fields, `stages` with only the changed stages, each
 * of them whole, and `stageOrder`, the complete order, when the set or the order of stages changed.
 */
export type JobPatch = Partial<JobState> & { stageOrder?: string[]; revision?: number };

/** What happened, and what it changed. */
export interface Revision {
  /** The event as JSON text, made once: every viewer gets these bytes. */
  event: string;
  patch: JobPatch;
}

/** The unit of storing, announcing and flushing. */
export interface Batch {
  /** Unique: a batch whose append has an unknown outcome is looked up by it. */
  id: string;
  /** At least one; none when it carries a job over. */
  revisions: Revision[];
  /** The state after the last of them. */
  job: JobState;
  /** How long the job stays readable after this, in milliseconds. SPEC R15. */
  ttlMs: number;
  /**
   * The stored log does not contain this cursor, which was acknowledged: `job`, which does, becomes
   * the base of a new epoch, at revision 0.
   */
  carries?: Cursor;
}

/** The patch that makes `after` of `before`. */
export function diff(before: JobState, after: JobState): JobPatch {
  const patch: JobPatch = {};
  for (const key in after) {
    const field = key as keyof JobState;
    if (field !== "stages" && before[field] !== after[field]) {
      Object.assign(patch, { [field]: after[field] });
    }
  }
  if (before.stages === after.stages) return patch;
  const sameOrder =
    before.stages.length === after.stages.length &&
    after.stages.every(({ stage }, at) => stage === before.stages[at]?.stage);
  if (sameOrder) patch.stages = after.stages.filter((stage, at) => stage !== before.stages[at]);
  else {
    const known = new Set(before.stages);
    patch.stages = after.stages.filter((stage) => !known.has(stage));
    patch.stageOrder = after.stages.map(({ stage }) => stage);
  }
  return patch;
}

/**
 * The job after a patch. Pure; the keys keep their order, so that its JSON text equals the poll's
 * body. Works on a snapshot, as viewers have it, and on a state without its place in the log.
 */
export function applyPatch<J extends JobState | JobSnapshot>(job: J, patch: JobPatch): J {
  const { stageOrder, stages, ...fields } = patch;
  const next = { ...job, ...fields };
  const changed = new Map(stages?.map((stage) => [stage.stage, stage]));
  if (stageOrder) {
    for (const stage of job.stages) if (!changed.has(stage.stage)) changed.set(stage.stage, stage);
    next.stages = stageOrder.flatMap((name) => changed.get(name) ?? []);
  } else if (stages) {
    next.stages = job.stages.map((stage) => changed.get(stage.stage) ?? stage);
  }
  return next;
}
