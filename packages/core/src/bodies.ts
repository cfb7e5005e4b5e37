import { encodeJob, type FrameOptions } from "./frames.js";
import { type Cursor, sameCursor } from "./revision.js";
import type { JobState } from "./snapshot.js";

interface Body {
  cursor: Cursor;
  bytes: Buffer;
}

const KEPT_BYTES = 16 * 1024 * 1024;

/**
 * The head of each job as JSON, made once a revision: rooms put it into frames, polls send it as it
 * is. Keeps the last used, up to 16 MiB.
 */
export class Bodies {
  readonly #options: FrameOptions;
  readonly #latest = new Map<string, Body>(); // in order of use
  #bytes = 0;

  constructor(options: FrameOptions) {
    this.#options = options;
  }

  of(job: JobState, cursor: Cursor): Buffer {
    const { jobId } = job;
    const known = this.#latest.get(jobId);
    if (known && sameCursor(known.cursor, cursor)) return known.bytes;
    const bytes = encodeJob(job, cursor, this.#options);
    if (known) this.#forget(jobId, known);
    this.#latest.set(jobId, { cursor, bytes });
    this.#bytes += bytes.length;
    for (const [oldest, body] of this.#latest) {
      if (this.#bytes <= KEPT_BYTES || oldest === jobId) break;
      this.#forget(oldest, body);
    }
    return bytes;
  }

  #forget(jobId: string, body: Body): void {
    this.#latest.delete(jobId);
    this.#bytes -= body.bytes.length;
  }
}
