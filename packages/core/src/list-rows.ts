import type { Bodies } from "./bodies.js";
import { WorkflowMonitorError } from "./errors.js";
import { encodeSummary, type FrameOptions } from "./frames.js";
import type { Logger } from "./host.js";
import type { Cursor } from "./revision.js";
import type { JobState, JobSummary } from "./snapshot.js";
import type { JobQuery } from "./store.js";

/** A page ends after this many bytes of shaped rows: each of them may be a whole job. */
export const PAGE_BYTES = 1024 * 1024;
/** Most jobs that are read and shaped in one turn of the event loop. */
const SHAPED_AT_ONCE = 8;

export interface ListRowsOptions {
  frames: FrameOptions;
  bodies: Bodies;
  logger: Logger;
  /** The head of a job. Throws or rejects `unknown_job` when the job is gone. */
  read(jobId: string): Head | Promise<Head>;
}

interface Head {
  job: JobState;
  cursor: Cursor;
}

/**
 * Rows of the list as viewers get them: the summaries that the store lists, or, with `present`, the
 * bytes of `GET /jobs/:id`. SPEC R16.
 */
export interface ListRows {
  /** Throws `bad_request` for a query whose answer would tell what `present` leaves out. */
  check(query: JobQuery): void;
  /** Most rows that `encode` takes at once. */
  readonly atOnce: number;
  /**
   * The JSON of each job. Leaves out jobs that are gone, and with a line in the log those for which
   * `present` throws or returns nothing. Rejects with `unavailable` when the store does not answer.
   */
  encode(jobs: readonly JobSummary[]): Promise<Buffer[]>;
}

export const createListRows = (options: ListRowsOptions): ListRows =>
  options.frames.present ? shapedRows(options) : plainRows;

const plainRows: ListRows = {
  check() {},
  atOnce: Number.POSITIVE_INFINITY,
  encode: async (jobs) => jobs.map(encodeSummary),
};

function shapedRows({ bodies, logger, read }: ListRowsOptions): ListRows {
  /** From the whole job: `present` may look at its stages. */
  const encodeRow = async ({ jobId }: JobSummary): Promise<Buffer> => {
    const { job, cursor } = await read(jobId);
    return bodies.of(job, cursor).bytes;
  };

  return {
    check({ labels = {} }) {
      if (Object.keys(labels).length === 0) return;
      throw new WorkflowMonitorError(
        "bad_request",
        "This server shows jobs in another shape, which cannot be filtered by label: leave `label` out.",
      );
    },

    atOnce: SHAPED_AT_ONCE,

    async encode(jobs) {
      const failed: { jobIds: string[]; err?: unknown } = { jobIds: [] };
      const rows = await Promise.all(
        jobs.map((row) =>
          encodeRow(row).catch((error: WorkflowMonitorError) => {
            if (error.code === "unknown_job") return undefined;
            if (error.code !== "internal") throw error;
            failed.jobIds.push(row.jobId);
            failed.err ??= error.cause;
            return undefined;
          }),
        ),
      );
      if (failed.jobIds.length > 0) {
        logger.error({ ...failed }, "`present` cannot show these jobs: the list leaves them out");
      }
      await new Promise(setImmediate);
      return rows.filter((row) => row !== undefined);
    },
  };
}
