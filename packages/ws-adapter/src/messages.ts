import {
  type Clock,
  type Cursor,
  type Mode,
  parseCursor,
  parseMode,
  WorkflowMonitorError,
} from "@org/workflow-monitor";

/** What a viewer wants, once its message has been read. `type` null: nothing that this server knows. */
export type Wish =
  | { type: "subscribe"; jobId: string; after: Cursor | null; mode: Mode }
  | { type: "unsubscribe"; jobId: string }
  | { type: "ping" }
  | { type: null };

/**
 * Reads a message. Throws a WorkflowMonitorError `bad_request`; with a `jobId` it is about that
 * subscription alone. Unknown types are not an error, so that the protocol can grow.
 */
export function readMessage(text: string): Wish {
  const message = parse(text);
  const { type, jobId, mode, after } = message;
  if (type === "ping") return { type };
  if (type !== "subscribe" && type !== "unsubscribe") return { type: null };
  if (typeof jobId !== "string") throw bad(`${type} needs a jobId, as a text.`);
  if (type === "unsubscribe") return { type, jobId };
  const known = parseMode(mode);
  if (!known) throw bad("mode must be full or delta.", jobId);
  return { type, jobId, mode: known, after: parseCursor(after) ?? null };
}

function parse(text: string): Record<string, unknown> {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    throw bad("A message is not JSON.");
  }
  if (typeof message !== "object" || message === null || Array.isArray(message)) {
    throw bad("A message must be a JSON object with a type.");
  }
  return message as Record<string, unknown>;
}

const bad = (message: string, jobId?: string) =>
  new WorkflowMonitorError("bad_request", message, jobId === undefined ? {} : { jobId });

/** A bucket of so many, filled again with so many a second. */
export class Allowance {
  readonly #clock: Clock;
  readonly #size: number;
  readonly #perSecond: number;
  #left: number;
  #at: number;

  constructor(clock: Clock, size: number, perSecond: number) {
    this.#clock = clock;
    this.#size = size;
    this.#perSecond = perSecond;
    this.#left = size;
    this.#at = clock.monotonic();
  }

  /** False: none is left. */
  take(): boolean {
    const now = this.#clock.monotonic();
    const filled = this.#left + ((now - this.#at) / 1_000) * this.#perSecond;
    this.#left = Math.min(this.#size, filled);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
