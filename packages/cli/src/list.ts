import type { JobSummary, MonitorClient } from "@org/workflow-monitor-client";
import type { ListCommand } from "./arguments.js";
import { ExitCode } from "./exit-codes.js";
import type { Io } from "./io.js";
import { readJob } from "./job.js";
import { jsonLine } from "./render-json.js";
import { clip, column, printable, widthOf } from "./text.js";
import { duration, nameOf } from "./words.js";

/** The server gives at most so many in a page. */
const PAGE = 200;

/** Prints jobs, newest first; resolves to the exit code. */
export async function list(command: ListCommand, client: MonitorClient, io: Io): Promise<number> {
  const { signal, stdout, stderr, clock } = io;
  try {
    const { jobs, more } = await read(command, client, signal);
    if (command.json) for (const job of jobs) stdout.write(jsonLine(job));
    else if (jobs.length > 0) {
      const width = stdout.isTTY ? stdout.columns || 80 : Number.POSITIVE_INFINITY;
      stdout.write(table(jobs.map(readRow), clock.now(), width));
    }
    if (jobs.length === 0) stderr.write("There are no such jobs.\n");
    else if (more)
      stderr.write(`There are more than these ${jobs.length}: --limit <n> for more.\n`);
    return 0;
  } catch (error) {
    if (signal.aborted) return signal.reason as number;
    stderr.write(`${printable((error as Error).message)}\n`);
    return ExitCode.notWatched;
  }
}

/** A row may be in a shape of the host's own, without its id. */
const readRow = (job: JobSummary): JobSummary => readJob(job, "");

/** Pages until there are enough: a page is short when the server has looked through very many jobs, or when its rows are large. */
async function read(
  { limit, status, label }: ListCommand,
  client: MonitorClient,
  signal: AbortSignal,
) {
  const jobs: JobSummary[] = [];
  let next: string | null = null;
  do {
    const page = await client.list(
      {
        limit: Math.min(PAGE, limit - jobs.length),
        ...(status !== undefined && { status }),
        ...(label !== undefined && { label }),
        ...(next !== null && { cursor: next }),
      },
      { signal },
    );
    jobs.push(...page.jobs);
    next = page.next;
  } while (next !== null && jobs.length < limit);
  return { jobs, more: next !== null };
}

/** The jobs under a header, in columns; lines are cut at `width`. */
function table(jobs: readonly JobSummary[], now: number, width: number): string {
  const rows = jobs.map((job) => [
    printable(job.jobId),
    job.name === null ? "" : nameOf(job),
    job.status,
    job.indeterminate && !job.done ? "" : `${job.progress} %`,
    printable(job.currentStage ?? ""),
    job.updatedAt && `${duration(now - Date.parse(job.updatedAt))} ago`,
  ]);
  const header = ["JOB", "NAME", "STATUS", "DONE", "STAGE", "CHANGED"];
  const widths = header.map((title, at) =>
    Math.max(title.length, ...rows.map((row) => widthOf(row[at] ?? ""))),
  );
  return [header, ...rows]
    .map((row) => row.map((cell, at) => column(cell, widths[at] ?? 0)).join("  "))
    .map((text) => `${clip(text.trimEnd(), width)}\n`)
    .join("");
}
