import type { MonitorClientError, WatchListeners } from "@org/workflow-monitor-client";

/** Where a view writes to; a `tty.WriteStream` is one. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  on?(event: "resize", listener: () => void): unknown;
  off?(event: "resize", listener: () => void): unknown;
}

/** As the core's: `setTimeout` returns what cancels it. */
export interface Clock {
  now(): number;
  setTimeout(fn: () => void, ms: number): () => void;
}

/** What shows a watch: to people in a terminal, to people in a log, to programs. */
export interface View extends WatchListeners {
  /** The job cannot be watched any more. */
  failed(error: MonitorClientError): void;
  /** Leaves the output as it was found. Idempotent; after `done` and `failed`, too. */
  close(): void;
}
