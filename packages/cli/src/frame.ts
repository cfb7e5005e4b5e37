import type { Connection, JobSnapshot, StageSnapshot, Status } from "@org/workflow-monitor-client";
import { type Format, line, type Span } from "./paint.js";
import { pickStages } from "./stage-window.js";
import { column, widthOf } from "./text.js";
import {
  attemptWords,
  connectionWords,
  countWords,
  elapsed,
  nameOf,
  stageName,
  why,
} from "./words.js";

export interface FrameInput {
  /** null: nothing is known yet. */
  job: JobSnapshot | null;
  /** What to call the job before it is known. */
  title: string;
  connection: Connection;
  /** Milliseconds since 1970. */
  now: number;
  columns: number;
  rows: number;
  colors: boolean;
}

const looks: Record<Status, readonly [symbol: string, format: Format]> = {
  pending: ["·", "dim"],
  running: ["▶", "cyan"],
  waiting: ["…", "yellow"],
  completed: ["✔", "green"],
  failed: ["✖", "red"],
  cancelled: ["⊘", "yellow"],
  skipped: ["↓", "dim"],
};

/** How long one picture of what moves stays, in milliseconds. */
export const FRAME_MS = 100;
const spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏";

/** Which picture of what moves is due; null while nothing is known to move. */
const beatOf = ({ connection, now }: FrameInput): number | null =>
  connection.state === "live" || connection.state === "polling" ? Math.floor(now / FRAME_MS) : null;

function symbol(status: Status, beat: number | null): Span {
  const [sign, format] = looks[status];
  if (status !== "running" || beat === null) return [sign, format];
  return [spinner[beat % spinner.length] ?? sign, format];
}

type Measured = Pick<StageSnapshot, "status" | "progress" | "indeterminate">;

/** A bar and its percentage; without a known progress a piece that wanders, and none. */
function bar({ status, progress, indeterminate }: Measured, width: number, beat: number | null) {
  const moves = indeterminate && status === "running";
  const full = Math.floor((width * progress) / 100);
  const piece = Math.min(3, width);
  const from = moves && beat !== null ? beat % (width - piece + 1) : 0;
  const cells = moves
    ? "░".repeat(from) + "▒".repeat(piece) + "░".repeat(width - piece - from)
    : "█".repeat(full) + "░".repeat(width - full);
  const unknown = indeterminate || status === "skipped" || (status === "pending" && progress === 0);
  return {
    cells: width > 0 ? `${cells} ` : "",
    percent: unknown ? "     " : `${progress} %`.padStart(5),
  };
}

/** How wide the bars are: nothing but words where there is no room. */
function barWidth(columns: number): number {
  if (columns >= 110) return 30;
  if (columns >= 76) return 18;
  return columns >= 52 ? 8 : 0;
}

function jobLines(job: JobSnapshot, input: FrameInput): Span[][] {
  const beat = beatOf(input);
  const format = looks[job.status][1];
  const { cells, percent } = bar(job, barWidth(input.columns), beat);
  const took = elapsed(job, input.now);
  const run = job.run > 1 ? `run ${job.run}  ` : "";
  const head: Span[] = [
    symbol(job.status, beat),
    [` ${nameOf(job)}`, "bold"],
    [`  ${job.status}  `, format],
    [cells, format],
    [`${percent}  ${run}${took ?? ""}`],
  ];
  const cause = why(job);
  return cause ? [head, [[`  ${cause}`, job.status === "failed" ? "red" : "dim"]]] : [head];
}

function connectionLine(job: JobSnapshot | null, { connection, now }: FrameInput): Span[] {
  const { state, stale } = connection;
  const good = (state === "live" || state === "polling") && !stale;
  const words = state === "ended" ? "" : connectionWords(connection, now);
  const total = job?.counts.total ?? 0;
  const counts =
    job && total > 0
      ? `${total.toLocaleString("en")} ${total === 1 ? "stage" : "stages"}: ${countWords(job.counts)}`
      : "";
  const between = words && counts ? " · " : "";
  // What is wrong stands first, and is not cut for the sake of figures.
  return [
    ["  "],
    [words, good || state === "connecting" ? "dim" : "yellow"],
    [between + counts, "dim"],
  ];
}

function stageLine(stage: StageSnapshot, nameWidth: number, input: FrameInput): Span[] {
  const beat = beatOf(input);
  const format = looks[stage.status][1];
  const { cells, percent } = bar(stage, barWidth(input.columns), beat);
  const note = [attemptWords(stage.attempt, stage.maxAttempts), why(stage)]
    .filter(Boolean)
    .join(": ");
  return [
    ["  "],
    symbol(stage.status, beat),
    [` ${column(stageName(stage), nameWidth)} `],
    [`${stage.status.padEnd(9)} `, format],
    [cells, format],
    [`${percent}  `],
    [note, stage.status === "failed" ? "red" : "dim"],
  ];
}

/** What `shown` leaves out, counted by status. */
function restLine(job: JobSnapshot, shown: readonly StageSnapshot[]): Span[] {
  const rest: Record<string, number> = { ...job.counts };
  for (const { status } of shown) rest[status] = (rest[status] ?? 0) - 1;
  return [
    [
      `  … and ${(job.stages.length - shown.length).toLocaleString("en")} more: ${countWords(rest)}`,
      "dim",
    ],
  ];
}

/**
 * The picture of a watch in a terminal: the job, the connection, a line for each stage, or for those that
 * matter most now. Never wider than `columns - 1` nor higher than `rows - 1`: the cursor stands below it.
 */
export function frame(input: FrameInput): string[] {
  const { job, title, columns, rows } = input;
  const room = Math.max(1, rows - 1);
  const lines: Span[][] = job
    ? jobLines(job, input)
    : [
        [
          ["⠿ ", "dim"],
          [title, "bold"],
        ],
      ];
  lines.push(connectionLine(job, input));
  if (job) {
    const left = room - lines.length;
    const shown = pickStages(job.stages, job.stages.length > left ? left - 1 : left);
    const widest = Math.max(0, ...shown.map((stage) => widthOf(stageName(stage))));
    const nameWidth = Math.min(widest, Math.max(8, Math.floor(columns * 0.3)));
    for (const stage of shown) lines.push(stageLine(stage, nameWidth, input));
    if (shown.length < job.stages.length) lines.push(restLine(job, shown));
  }
  return lines.slice(0, room).map((spans) => line(spans, columns - 1, input.colors).trimEnd());
}
