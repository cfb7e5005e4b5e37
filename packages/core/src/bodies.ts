import { encodeJob, type FrameOptions } from "./frames.js";
import { type Cursor, printCursor, sameCursor } from "./revision.js";
import type { JobState } from "./snapshot.js";

/** A head as JSON. */
export interface Body {
  cursor: Cursor;
  bytes: Buffer;
  /** `"<cursor>"`, with `presentVersion` behind it: equal for equal bytes. RFC 9110 §8.8.3. */
  etag: string;
}

const KEPT_BYTES = 16 * 1024 * 1024;

/**
 * The head of each job as JSON, made once a revision: rooms put it into frames, polls send it as it
 * is. Keeps the last used, up to 16 MiB.
 */
export class Bodies {
  readonly #options: FrameOptions;
  readonly #suffix: string;
  readonly #latest = new Map<string, Body>(); // in order of use
  #bytes = 0;

  constructor(options: FrameOptions, presentVersion?: string) {
    this.#options = options;
    this.#suffix = presentVersion === undefined ? "" : `-${presentVersion}`;
  }

  of(job: JobState, cursor: Cursor): Body {
    const { jobId } = job;
    const known = this.#latest.get(jobId);
    if (known && sameCursor(known.cursor, cursor)) return known;
    const bytes = encodeJob(job, cursor, this.#options);
    if (known) this.#forget(jobId, known);
    const body = { cursor, bytes, etag: `"${printCursor(cursor)}${this.#suffix}"` };
    this.#latest.set(jobId, body);
    this.#bytes += bytes.length;
    for (const [oldest, other] of this.#latest) {
      if (this.#bytes <= KEPT_BYTES || oldest === jobId) break;
      this.#forget(oldest, other);
    }
    return body;
  }

  #forget(jobId: string, body: Body): void {
    this.#latest.delete(jobId);
    this.#bytes -= body.bytes.length;
  }
}
