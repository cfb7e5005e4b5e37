import type { Bodies } from "./bodies.js";
import { WorkflowMonitorError } from "./errors.js";
import { encodePage, encodeSummary, type FrameOptions } from "./frames.js";
import type { Logger } from "./host.js";
import type { Cursor } from "./revision.js";
import type { JobState, JobSummary } from "./snapshot.js";
import type { JobPage, JobQuery } from "./store.js";
import { LATER_BYTES, type Turns } from "./turns.js";

/** A page ends after this many bytes of shaped rows: each of them may be a whole job. */
const PAGE_BYTES = 1024 * 1024;
/** What a row costs that was never shaped. */
const ROW_BYTES = 64 * 1024;
/** Most jobs that are read at once to be shaped. */
const SHAPED_AT_ONCE = 8;

export interface ListEncoderOptions {
  frames: FrameOptions;
  bodies: Bodies;
  logger: Logger;
  turns: Turns;
  /** The head of a job. Throws or rejects `unknown_job` when the job is gone. */
  read(jobId: string): Head | Promise<Head>;
}

interface Head {
  job: JobState;
  cursor: Cursor;
}

/**
 * Makes the JSON of a page, `{ jobs, next }`. Without `present` its rows are the summaries that are
 * listed; with `present` they are the bytes of `GET /jobs/:id`, and the page may end early. SPEC R16.
 *
 * @param list lists the jobs that the viewer may watch
 * @throws WorkflowMonitorError `bad_request` for a query whose answer would tell what `present`
 *   leaves out, and whatever `list` and `read` reject with
 */
export type EncodeList = (
  query: JobQuery,
  list: (query: JobQuery) => Promise<JobPage>,
) => Promise<Buffer>;

export const createListEncoder = (options: ListEncoderOptions): EncodeList =>
  options.frames.present ? shapedList(options) : summaries(options);

const summaries =
  ({ turns }: ListEncoderOptions): EncodeList =>
  async (query, list) => {
    const { jobs, next } = await list(query);
    await new Promise<void>((resolve) => turns.later(LATER_BYTES, resolve));
    return encodePage(jobs.map(encodeSummary), next);
  };

function shapedList({ bodies, logger, turns, read }: ListEncoderOptions): EncodeList {
  /** The whole job, since `present` may look at its stages. Undefined: the job is gone meanwhile. */
  async function readWhole({ jobId }: JobSummary): Promise<Head | undefined> {
    try {
      return await read(jobId);
    } catch (thrown) {
      if ((thrown as WorkflowMonitorError).code === "unknown_job") return undefined;
      throw thrown;
    }
  }

  /** Leaves out jobs that are gone meanwhile, and jobs that `present` cannot shape. */
  async function encodeRows(jobs: readonly JobSummary[]): Promise<Buffer[]> {
    const failed: { jobIds: string[]; err?: unknown } = { jobIds: [] };
    const rows: Buffer[] = [];
    for (const head of await Promise.all(jobs.map(readWhole))) {
      if (!head) continue;
      const size = bodies.lastSize(head.job.jobId) ?? ROW_BYTES;
      await new Promise<void>((resolve) => turns.later(size, resolve));
      try {
        const { bytes } = bodies.of(head.job, head.cursor);
        rows.push(bytes);
      } catch (thrown) {
        failed.jobIds.push(head.job.jobId);
        failed.err ??= (thrown as WorkflowMonitorError).cause;
      }
    }
    if (failed.jobIds.length > 0)
      logger.error({ ...failed }, "`present` cannot show these jobs: the list leaves them out");
    return rows;
  }

  return async (query, list) => {
    if (Object.keys(query.labels ?? {}).length > 0) {
      throw new WorkflowMonitorError(
        "bad_request",
        "This server shows jobs in another shape, which cannot be filtered by label: leave `label` out.",
      );
    }
    const rows: Buffer[] = [];
    let bytes = 0;
    let wanted = query.limit;
    let part = query;
    for (;;) {
      part = { ...part, limit: Math.min(wanted, SHAPED_AT_ONCE) };
      const { jobs, next } = await list(part);
      for (const row of await encodeRows(jobs)) {
        rows.push(row);
        bytes += row.length;
      }
      wanted -= jobs.length;
      const isFull = wanted <= 0 || bytes >= PAGE_BYTES;
      // A short part has looked at as many jobs as a request may.
      if (next === null || isFull || jobs.length < part.limit) return encodePage(rows, next);
      part = { ...part, cursor: next };
    }
  };
}
