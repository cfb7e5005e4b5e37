import { WorkflowMonitorError } from "./errors.js";
import { encodeJob, type FrameOptions } from "./frames.js";
import { type Cursor, printCursor, sameCursor } from "./revision.js";
import type { JobState } from "./snapshot.js";

/** The head of a job as JSON, as polls get it. */
export interface JobBody {
  cursor: Cursor;
  /** The same bytes as `job` in the frames of this cursor. */
  bytes: Buffer;
  /** The validator, with its quotes: `"<cursor>"`, with `presentVersion` behind it. Equal for equal bytes. RFC 9110 §8.8.3. */
  etag: string;
  done: boolean;
}

const KEPT_BYTES = 16 * 1024 * 1024;

/**
 * The head of each job as JSON, made once a revision: rooms put it into frames, polls send it as it
 * is. Keeps the last used, up to 16 MiB.
 */
export class Bodies {
  readonly #options: FrameOptions;
  readonly #suffix: string;
  readonly #latest = new Map<string, JobBody>(); // in order of use
  #bytes = 0;

  constructor(options: FrameOptions, presentVersion?: string) {
    this.#options = options;
    this.#suffix = presentVersion === undefined ? "" : `-${presentVersion}`;
  }

  /** Throws `internal`, whatever `present` throws. */
  of(job: JobState, cursor: Cursor): JobBody {
    const { jobId } = job;
    const known = this.#latest.get(jobId);
    if (known && sameCursor(known.cursor, cursor)) return known;
    const bytes = this.#encode(job, cursor);
    if (known) this.#forget(jobId, known);
    const body = { cursor, bytes, etag: this.etag(cursor), done: job.done };
    this.#latest.set(jobId, body);
    this.#bytes += bytes.length;
    for (const [oldest, other] of this.#latest) {
      if (this.#bytes <= KEPT_BYTES || oldest === jobId) break;
      this.#forget(oldest, other);
    }
    return body;
  }

  /** How large a job was when it was last encoded; undefined: that is not kept. */
  lastSize(jobId: string): number | undefined {
    return this.#latest.get(jobId)?.bytes.length;
  }

  /** The validator of whatever shows the job at this cursor. */
  etag(cursor: Cursor): string {
    return `"${printCursor(cursor)}${this.#suffix}"`;
  }

  #encode(job: JobState, cursor: Cursor): Buffer {
    try {
      return encodeJob(job, cursor, this.#options);
    } catch (thrown) {
      throw new WorkflowMonitorError("internal", "The job cannot be shown.", {
        jobId: job.jobId,
        cause: thrown,
      });
    }
  }

  #forget(jobId: string, body: JobBody): void {
    this.#latest.delete(jobId);
    this.#bytes -= body.bytes.length;
  }
}
