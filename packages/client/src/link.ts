import type { Frame } from "@org/workflow-monitor/protocol";
import { MonitorClientError } from "./errors.js";
import type { Host } from "./host.js";

/** One try to reach the server over one transport, until it is closed or down. */
export interface Link {
  /** Watches a job, from a cursor on. Of one that is watched already: begins anew. */
  watch(jobId: string, after: string | undefined): void;
  unwatch(jobId: string): void;
  /** The network may have changed: find out soon whether this still works. */
  check(): void;
  /** Nothing is heard of it afterwards. */
  close(): void;
}

/** What a link tells. */
export interface LinkListener {
  /** The server has said something that makes sense. At each occasion. */
  up(): void;
  frame(frame: Frame): void;
  /** One job cannot be watched; the link goes on. */
  refused(jobId: string, error: MonitorClientError): void;
  /** It does not work, or not any more. `silent`: it looks open, but nothing comes. */
  down(error: MonitorClientError, silent?: boolean): void;
}

/** Until the first frame of a link, or of a job on it. */
export const ANSWER_MS = 10_000;
/** Until something comes of a link that was asked whether it lives. */
export const CHECK_MS = 5_000;
/** What the server says at the latest, until it says otherwise. */
const HEARTBEAT_MS = 25_000;

/** Calls `onSilence` when nothing was heard for two heartbeats. */
export class Watchdog {
  readonly #host: Host;
  readonly #onSilence: (forMs: number) => void;
  #heardAt: number;
  #limitMs = ANSWER_MS;
  #heartbeatMs = HEARTBEAT_MS;
  #cancel: () => void;

  constructor(host: Host, onSilence: (forMs: number) => void) {
    this.#host = host;
    this.#onSilence = onSilence;
    this.#heardAt = host.now();
    this.#cancel = host.setTimeout(() => this.#look(), ANSWER_MS);
  }

  /** What a snapshot says. */
  set heartbeatMs(ms: number) {
    this.#heartbeatMs = ms;
  }

  heard(): void {
    this.#heardAt = this.#host.now();
    this.#limitMs = 2 * this.#heartbeatMs;
  }

  /** Something has to come within `ms`. */
  expect(ms: number): void {
    this.#heardAt = this.#host.now();
    this.#limitMs = ms;
    this.#cancel();
    this.#cancel = this.#host.setTimeout(() => this.#look(), ms);
  }

  /** Since when, in milliseconds, nothing was heard. */
  get silentMs(): number {
    return this.#host.now() - this.#heardAt;
  }

  /** One timer for many frames: it goes off early, and is set again for what is left. */
  #look(): void {
    const left = this.#limitMs - this.silentMs;
    if (left <= 0) this.#onSilence(this.silentMs);
    else this.#cancel = this.#host.setTimeout(() => this.#look(), left);
  }

  stop(): void {
    this.#cancel();
  }
}

export const unreachable = (message: string, cause?: unknown): MonitorClientError =>
  new MonitorClientError("unreachable", message, { retryable: true, cause });

export const silence = (forMs: number): MonitorClientError =>
  unreachable(`Nothing came from the server for ${Math.round(forMs / 1_000)} s: connecting again.`);

export const badAnswer = (message: string, cause?: unknown): MonitorClientError =>
  new MonitorClientError("bad_answer", message, { cause });

/** The frame that a text is. Throws `bad_answer`. */
export function parseFrame(text: unknown): Frame {
  let frame: unknown;
  try {
    frame = JSON.parse(text as string);
  } catch {
    // below
  }
  if (typeof frame === "object" && frame && typeof (frame as Frame).type === "string") {
    return frame as Frame;
  }
  throw badAnswer(
    "Something answers that is no workflow monitor: check `url` and `paths`, and what stands between.",
  );
}
