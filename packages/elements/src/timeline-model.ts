import type { JobSnapshot, StageSnapshot, Status } from "@org/workflow-monitor-client";
import { formatDuration } from "./format.js";
import { isActive } from "./status.js";

/** One attempt of a stage, as a bar. Times in milliseconds since 1970. */
export interface Bar {
  attempt: number;
  status: Status;
  reason: string | null;
  start: number;
  /** null: it goes on. Equal to `start`: only its end is known. */
  end: number | null;
}

const time = (text: string | null): number | null => (text === null ? null : Date.parse(text));

type Try = Pick<StageSnapshot, "attempt" | "status" | "reason" | "startedAt" | "finishedAt">;

function barOf({ attempt, status, reason, startedAt, finishedAt }: Try): Bar | null {
  const end = time(finishedAt);
  const start = time(startedAt) ?? end;
  if (start === null || status === "pending" || status === "skipped") return null;
  return {
    attempt,
    status,
    reason,
    start,
    end: isActive(status) ? null : Math.max(start, end ?? start),
  };
}

const known = new WeakMap<StageSnapshot, readonly Bar[]>();

/** The attempts that have begun, oldest first; none of a stage that is pending or was skipped. */
export function barsOf(stage: StageSnapshot): readonly Bar[] {
  let bars = known.get(stage);
  if (!bars) {
    bars = [...stage.attempts, stage].map(barOf).filter((bar) => bar !== null);
    known.set(stage, bars);
  }
  return bars;
}

/** Times in milliseconds since 1970. */
export interface Gap {
  start: number;
  /** null: it goes on. */
  end: number | null;
}

/** The waits between attempts, and the one for an attempt that has not begun. */
export function gapsOf(stage: StageSnapshot): Gap[] {
  const bars = barsOf(stage);
  const gaps: Gap[] = [];
  for (const [at, { end }] of bars.entries()) {
    const next = bars[at + 1];
    if (end !== null && next && next.start > end) gaps.push({ start: end, end: next.start });
  }
  const last = bars.at(-1);
  if (stage.status === "pending" && last && last.end !== null)
    gaps.push({ start: last.end, end: null });
  return gaps;
}

/** From when to when there is something to show; `now` is the end while the job goes on. */
export function extentOf(job: JobSnapshot, now: number): { start: number; end: number } {
  let start = time(job.startedAt) ?? Number.POSITIVE_INFINITY;
  let end = time(job.finishedAt) ?? Number.NEGATIVE_INFINITY;
  for (const stage of job.stages) {
    for (const bar of barsOf(stage)) {
      start = Math.min(start, bar.start);
      end = Math.max(end, bar.end ?? bar.start);
    }
  }
  if (start === Number.POSITIVE_INFINITY) {
    // Nothing has begun: there is no time to show, and it stands still.
    start = Number.isFinite(end) ? end : Date.parse(job.updatedAt);
    return { start, end: start };
  }
  return { start, end: Math.max(start, job.done ? end : Math.max(end, now)) };
}

/** What the axis shows: it stays while `end` fits, so that bars do not creep. */
export interface Axis {
  start: number;
  end: number;
  /** Of its ticks, in milliseconds. */
  step: number;
}

const SECOND = 1_000;
const STEPS = [
  0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200,
  10_800, 21_600, 43_200,
].map((seconds) => seconds * SECOND);
const DAY = 86_400 * SECOND;

/** The least round step that makes at most `ticks` of a duration. */
function stepOf(duration: number, ticks: number): number {
  return STEPS.find((step) => duration / step <= ticks) ?? Math.ceil(duration / ticks / DAY) * DAY;
}

/** The axis for an extent: the one before if that still fits, else one that ends at a round step. */
export function axisFor(
  { start, end }: { start: number; end: number },
  done: boolean,
  before: Axis | null = null,
): Axis {
  const duration = Math.max(end - start, done ? 10 : 5 * SECOND);
  if (done) return { start, end: start + duration * 1.03, step: stepOf(duration, 5) };
  if (before?.start === start && end <= before.end) return before;
  const step = stepOf(duration, 5);
  return { start, end: start + Math.ceil((duration + 1) / step) * step, step };
}

/** Percent of the axis. */
export const positionOn = ({ start, end }: Axis, at: number): number =>
  Math.min(100, Math.max(0, ((at - start) / (end - start)) * 100));

/** The ticks with what they say: the time since the beginning. */
export function ticksOf(axis: Axis): { position: number; label: string }[] {
  const count = Math.floor((axis.end - axis.start) / axis.step + 1e-9);
  return Array.from({ length: count + 1 }, (_, at) => ({
    position: positionOn(axis, axis.start + at * axis.step),
    label: tickLabel(at * axis.step),
  }));
}

function tickLabel(ms: number): string {
  if (ms === 0) return "0";
  return formatDuration(ms, ms % SECOND === 0)
    .replace(/ 0+ (s|min|h)$/, "")
    .replace(" 00 s", "");
}
