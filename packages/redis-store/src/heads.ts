import type { Cursor, JobState } from "@org/workflow-monitor";

interface Head {
  cursor: Cursor;
  job: JobState;
  bytes: number;
}

const KEPT_BYTES = 16 * 1024 * 1024;

/**
 * The heads that were read last, up to 16 MiB: a poll of a job that has not changed asks Redis for its
 * place in the log, and gets no more.
 */
export class Heads {
  readonly #heads = new Map<string, Head>(); // in order of use
  #bytes = 0;

  get(jobId: string): Head | undefined {
    return this.#heads.get(jobId);
  }

  /** @param bytes of its text */
  set(jobId: string, cursor: Cursor, job: JobState, bytes: number): void {
    this.#forget(jobId);
    this.#heads.set(jobId, { cursor, job, bytes });
    this.#bytes += bytes;
    for (const oldest of this.#heads.keys()) {
      if (this.#bytes <= KEPT_BYTES) break;
      this.#forget(oldest);
    }
  }

  #forget(jobId: string): void {
    const head = this.#heads.get(jobId);
    if (!head) return;
    this.#heads.delete(jobId);
    this.#bytes -= head.bytes;
  }
}
