import { createHash } from "node:crypto";

/** Where BullMQ keeps things: `<prefix>:<queue>:<job id>`. */

export interface QueueRef {
  readonly name: string;
  readonly prefix: string;
  /** What each of its keys begins with: `<prefix>:<queue>:`. */
  readonly base: string;
}

export interface JobRef {
  readonly queue: QueueRef;
  readonly id: string;
  /** Unique over all queues. */
  readonly key: string;
}

export const queueRef = (prefix: string, name: string): QueueRef => ({
  name,
  prefix,
  base: `${prefix}:${name}:`,
});

export const jobRef = (queue: QueueRef, id: string): JobRef => ({
  queue,
  id,
  key: queue.base + id,
});

/**
 * A job's key, read backwards: queue names have no colon, prefixes and the ids of repeated jobs do.
 * So the longest known queue that it begins with is the one; else the last two colons decide.
 */
export function parseKey(key: string, known: (base: string) => QueueRef | undefined): JobRef {
  for (let end = key.lastIndexOf(":"); end > 0; end = key.lastIndexOf(":", end - 1)) {
    const queue = known(key.slice(0, end + 1));
    if (queue) return { queue, id: key.slice(end + 1), key };
  }
  const end = key.lastIndexOf(":");
  return { queue: queueOf(key.slice(0, end)), id: key.slice(end + 1), key };
}

/** The queue of a `queueKey`, `<prefix>:<queue>`. */
function queueOf(queueKey: string): QueueRef {
  const colon = queueKey.lastIndexOf(":");
  return queueRef(queueKey.slice(0, colon), queueKey.slice(colon + 1));
}

/** An id or a key for a message: short, and without control characters. */
export const shown = (text: string): string => JSON.stringify(text.slice(0, 200)).slice(1, -1);

/** A place in a queue's event stream: `<milliseconds>-<number>`. */
export const STREAM_START = "0-0";

export const isStreamId = (value: unknown): value is string =>
  typeof value === "string" && /^\d+-\d+$/.test(value);

/** Less than 0 when `one` stands before `other`. */
export function compareStreamIds(one: string, other: string): number {
  const [ms = 0, number = 0] = one.split("-").map(Number);
  const [otherMs = 0, otherNumber = 0] = other.split("-").map(Number);
  return ms - otherMs || number - otherNumber;
}

/** When an event was written, by Redis' clock. */
export const timeOf = (streamId: string): number => Number(streamId.split("-")[0]);

/** A short text that stands for a long one. */
export const fingerprint = (text: string): string =>
  createHash("sha1").update(text).digest("hex").slice(0, 16);
