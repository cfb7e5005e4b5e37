import type { ConnectionOptions } from "bullmq";
import { type QueueRef, queueRef } from "./keys.js";

/** A BullMQ job, as the options' functions see it. Its data and its result are never read. */
export interface SourceJob {
  /** BullMQ's id, unique within its queue. */
  id: string;
  name: string;
  queue: string;
}

export interface BullmqSourceOptions {
  /** Names of the queues whose jobs (in mode `flow`: whose flows) are watched. */
  queues: readonly string[];
  /**
   * Where their Redis is: what BullMQ's own classes take, options or an ioredis instance. An instance
   * is only asked for its options: the source makes connections of its own, one for each queue, at
   * most 32 more for queues in which only descendants are, and one for all reads.
   */
  connection: ConnectionOptions;
  /**
   * `job`: each BullMQ job is a job, what its progress reports are its stages. `flow`: the root of
   * each flow is a job, its descendants are the stages; a job outside of flows is as in mode `job`.
   */
  mode: "job" | "flow";
  /** BullMQ's key prefix. Default `bull`. */
  prefix?: string;
  /**
   * Turns what a job gave to `updateProgress` into one of the shapes that are understood (see the
   * README). Default: it is one.
   */
  parseProgress?: (progress: unknown, job: SourceJob) => unknown;
  /** The monitor's id of a job. Default: BullMQ's id if one queue is watched, else `<queue>:<id>`. */
  jobId?: (job: SourceJob) => string;
  /** The id of a descendant as a stage, unique within its flow. Default `<queue>:<id>`. */
  stageId?: (job: SourceJob) => string;
  /**
   * Called for what cannot be shown and why, once for each damaged key, and each time that Redis goes
   * away. Default: nothing is told.
   */
  onError?: (error: Error) => void;
  /** How often live jobs are read again, in case an event was lost; ±20 %. Default 30,000 ms. */
  reconcileMs?: number;
  /**
   * Jobs that ended this long before the source began are told, too: whoever watched them through a
   * source that is gone learns their end. Default 600,000 ms; of each queue the newest 1,000, and all
   * that left no record and that a monitor waits for.
   */
  lookBackMs?: number;
  /**
   * Most BullMQ jobs that are kept in memory, each about 1 KB: the live ones. Beyond it, jobs that
   * have not begun are left out until they do. Default 20,000.
   */
  maxTracked?: number;
}

export interface Settings extends Required<BullmqSourceOptions> {
  named: readonly QueueRef[];
}

/** A job of BullMQ's as those functions see it. */
export const sourceJob = (one: { id: string; name: string; queue: QueueRef }): SourceJob => ({
  id: one.id,
  name: one.name,
  queue: one.queue.name,
});

const TAKEN = new Set([
  "queues",
  "connection",
  "mode",
  "prefix",
  "parseProgress",
  "jobId",
  "stageId",
  "onError",
  "reconcileMs",
  "lookBackMs",
  "maxTracked",
]);

/** The options with their defaults. Throws a TypeError that says what is wrong with them. */
export function readOptions(options: BullmqSourceOptions): Settings {
  if (typeof options !== "object" || options === null) {
    throw new TypeError("bullmqSource needs an object of options.");
  }
  for (const key of Object.keys(options)) {
    if (!TAKEN.has(key)) throw new TypeError(`bullmqSource has no option ${key}.`);
  }
  const { queues, connection, mode, prefix = "bull" } = options;
  if (!Array.isArray(queues) || queues.length === 0) {
    throw new TypeError("queues must be an array of at least one queue's name.");
  }
  for (const name of queues) {
    if (typeof name !== "string" || name === "" || name.includes(":")) {
      throw new TypeError("queues must be names of BullMQ queues: texts without a colon.");
    }
  }
  if (new Set(queues).size !== queues.length) {
    throw new TypeError("queues must name each queue once.");
  }
  if (typeof connection !== "object" || connection === null) {
    throw new TypeError("connection must be options for ioredis, or an ioredis instance.");
  }
  if (typeof prefix !== "string" || prefix === "") {
    throw new TypeError("prefix must be a text that is not empty.");
  }
  if (mode !== "job" && mode !== "flow") throw new TypeError('mode must be "job" or "flow".');
  for (const name of ["parseProgress", "jobId", "stageId", "onError"] as const) {
    if (options[name] !== undefined && typeof options[name] !== "function") {
      throw new TypeError(`${name} must be a function.`);
    }
  }
  return {
    queues: [...queues],
    connection: ownConnection(connection),
    mode,
    prefix,
    parseProgress: options.parseProgress ?? ((progress) => progress),
    jobId: options.jobId ?? (queues.length === 1 ? ({ id }) => id : inItsQueue),
    stageId: options.stageId ?? inItsQueue,
    onError: options.onError ?? (() => {}),
    reconcileMs: whole(options, "reconcileMs", 30_000, 1),
    lookBackMs: whole(options, "lookBackMs", 600_000, 0),
    maxTracked: whole(options, "maxTracked", 20_000, 1),
    named: queues.map((name) => queueRef(prefix, name)),
  };
}

const inItsQueue = ({ queue, id }: SourceJob): string => `${queue}:${id}`;

const MAX_TIMER_MS = 2 ** 31 - 1;

function whole(
  options: BullmqSourceOptions,
  name: "reconcileMs" | "lookBackMs" | "maxTracked",
  byDefault: number,
  least: number,
): number {
  const value = options[name] ?? byDefault;
  if (!Number.isSafeInteger(value) || value < least || value > MAX_TIMER_MS / 2) {
    throw new TypeError(`${name} must be a whole number from ${least}.`);
  }
  return value;
}

/** An instance with its options, and what is not an ioredis (a cluster, another driver) as it is. */
function ownConnection(connection: ConnectionOptions): ConnectionOptions {
  const { duplicate, defineCommand, isCluster, options } = connection as Record<string, unknown>;
  const isInstance = typeof duplicate === "function";
  const isIoredis = isInstance && typeof defineCommand === "function" && isCluster !== true;
  const own = (isIoredis ? options : connection) as Record<string, unknown>;
  if (own.keyPrefix) {
    throw new TypeError("connection must not have a keyPrefix: BullMQ has its own, prefix.");
  }
  if (isInstance && !isIoredis) return connection;
  // Commands wait while Redis is away, instead of failing after some time.
  return { ...own, maxRetriesPerRequest: null, lazyConnect: false };
}
