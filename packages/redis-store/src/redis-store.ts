import { randomBytes, randomUUID } from "node:crypto";
import type { Cursor, JobRecord, JobState, JobStore, Logger } from "@org/workflow-monitor";
import { printCursor, WorkflowMonitorError } from "@org/workflow-monitor";
import type { RedisOptions } from "ioredis";
import { announced, digestOf } from "./announcement.js";
import { Connection } from "./connection.js";
import { withData } from "./damage.js";
import { Heads } from "./heads.js";
import { JobIndex } from "./job-index.js";
import { allFields, changes, cursorOf, eventsOf, jobOf, keysOf, patchesOf } from "./layout.js";
import * as scripts from "./scripts.js";
import { Subscriptions } from "./subscriptions.js";
import { Warnings } from "./warnings.js";

export interface RedisStoreOptions {
  /** `redis://[[user]:password@]host[:port][/db]`, or `rediss://` for TLS. Default: what `redis` says, else `redis://127.0.0.1:6379`. */
  url?: string;
  /**
   * Further options of ioredis: TLS, a password, Sentinel (`sentinels`, `name`). `keyPrefix` and
   * Redis Cluster are not supported.
   */
  redis?: RedisOptions;
  /** Before the names of all keys and channels. Default `wm:`. */
  prefix?: string;
  /** Event text kept for each job, in bytes. Default 1 MiB. */
  historyBytes?: number;
  /** History younger than this stays, up to 8 times `historyBytes`. Default 30,000. */
  keepMs?: number;
  /** What is not answered in this time, in milliseconds, ends the connection. Default 5,000. */
  timeoutMs?: number;
  /** pino's shape. Default: silent. */
  logger?: Logger;
}

const nothing = () => {};
const silent: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/**
 * The store for many nodes: any of them publishes, any of them serves any viewer. Needs Redis 7 or
 * Valkey, alone or with replicas behind Sentinel. Connects at once, and again whenever it has to; throws
 * only for options that cannot be right.
 */
export function redisStore(options: RedisStoreOptions = {}): JobStore {
  const { url, redis, prefix, historyBytes, keepMs, timeoutMs, logger } = checked(options);
  const warnings = new Warnings(logger);
  const connection = new Connection(
    { url, redis, timeoutMs, logger, warnings },
    (channel, message) => subscriptions.hear(channel, message),
  );
  const subscriptions = new Subscriptions(connection);
  const kept = `${historyBytes} ${keepMs}`;
  const index = new JobIndex(connection, prefix, warnings);
  const heads = new Heads();

  return {
    async read(jobId, after) {
      connection.assertOpen();
      const keys = keysOf(prefix, jobId);
      const { head, log, channel } = keys;
      const known = heads.get(jobId);
      const has = known?.cursor ?? after;
      const from = after ? [after.epoch, after.revision] : [];
      const args = [has ? printCursor(has) : "-", ...from];
      return withData(jobId, keys, async () => {
        const reply = (await connection.run(scripts.read, [head, log], args)) as Read | null;
        if (!reply) return undefined;
        const [at, , , secret, fields] = reply;
        const cursor = cursorOf(at);
        subscriptions.learn(channel, secret);
        let job = known?.job;
        if (fields.length > 0) {
          job = jobOf(fields);
          heads.set(jobId, cursor, job, sizeOf(fields));
        }
        return recordOf(reply, cursor, job, after);
      });
    },

    async append(jobId, base, batch) {
      connection.assertOpen();
      const keys = keysOf(prefix, jobId);
      const { head, log, channel } = keys;
      const { id, revisions, job, ttlMs, carries } = batch;
      const events = eventsOf(revisions);
      const change = changes(revisions);
      const run = (whole: boolean) => {
        const patches = whole ? patchesOf(revisions) : change.patches;
        const fields = whole ? allFields(job) : change.fields;
        // One text, since each argument costs both sides.
        const what = [
          base ? `${base.epoch} ${base.revision}` : "- -",
          carries ? printCursor(carries) : "-",
          `${whole ? 1 : 0} ${id} ${revisions.length} ${ttlMs} ${job.done ? 1 : 0} ${kept}`,
          digestOf(`${events}\n${patches === "" ? fields.join("\n") : patches}`),
          whole ? randomBytes(18).toString("base64") : "-",
        ].join(" ");
        const args = [what, channel, events, patches, ...fields];
        return connection.run(scripts.append, [head, log], args);
      };
      const whole = base === null || carries !== undefined;
      return withData(jobId, keys, async () => {
        let reply = await run(whole);
        if (reply === "whole") reply = await run(true);
        if (typeof reply !== "string") return false;
        const cursor = cursorOf(reply);
        index.note(job, cursor, ttlMs);
        return cursor;
      });
    },

    async find(jobId, batchId) {
      connection.assertOpen();
      const keys = keysOf(prefix, jobId);
      return withData(jobId, keys, async () => {
        const reply = await connection.run(scripts.find, [keys.head, keys.log], [batchId]);
        return reply === null ? undefined : cursorOf(reply as string);
      });
    },

    async follow(jobId, listener) {
      connection.assertOpen();
      const { channel } = keysOf(prefix, jobId);
      return subscriptions.follow(channel, (message, secret) => {
        const batch = announced(message, secret);
        if (batch) listener(batch);
        else warnings.say("Something else publishes to the channels of this store.", { channel });
      });
    },

    connection: (listener) => connection.listen(listener),

    async list(query) {
      connection.assertOpen();
      return index.list(query);
    },

    async secret() {
      connection.assertOpen();
      const mine = randomBytes(32).toString("base64url");
      const text = await connection.run(scripts.secret, [`${prefix}{jobs}:secret`], [mine]);
      return Buffer.from(text as string, "base64url");
    },

    async health() {
      connection.assertOpen();
      const channel = `${prefix}health:${randomUUID()}`;
      let heard = nothing;
      const echo = new Promise<void>((resolve) => {
        heard = resolve;
      });
      const unfollow = await subscriptions.follow(channel, () => heard());
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        const message = `Redis did not deliver a message in ${timeoutMs} ms.`;
        const error = new WorkflowMonitorError("unavailable", message);
        timer = setTimeout(() => reject(error), timeoutMs);
      });
      try {
        await connection.publish(channel, "");
        await Promise.race([echo, late]);
      } finally {
        clearTimeout(timer);
        unfollow();
      }
    },

    async close() {
      connection.close();
    },
  };
}

type Read = [
  cursor: string,
  carried: string,
  expired: number,
  secret: string,
  fields: string[],
  events: string[],
];

function recordOf(
  [, carried, expired, , , texts]: Read,
  cursor: Cursor,
  job: JobState | undefined,
  after: Cursor | undefined,
): JobRecord {
  const record: JobRecord = { cursor };
  const atHead = after?.epoch === cursor.epoch && after.revision === cursor.revision;
  if (!atHead && job) record.job = job;
  if (after) {
    const known = after.epoch === cursor.epoch ? after.revision : 0;
    const missed = Math.max(0, cursor.revision - known);
    // The first batch may begin before the reader's cursor.
    record.events = missed === 0 ? [] : texts.flatMap((text) => text.split("\n")).slice(-missed);
  }
  if (carried !== "") record.carried = carried.split(" ").map(cursorOf);
  if (expired) record.expired = true;
  return record;
}

const sizeOf = (texts: readonly string[]): number =>
  texts.reduce((sum, { length }) => sum + length, 0);

/** The options with their defaults. Throws a TypeError or a RangeError. */
function checked(options: RedisStoreOptions) {
  const { url, redis, prefix = "wm:", logger = silent } = options;
  const { historyBytes = 1024 * 1024, keepMs = 30_000, timeoutMs = 5_000 } = options;
  if (url !== undefined && !/^rediss?:\/\//.test(url))
    throw new TypeError("url must begin with redis:// or rediss://.");
  if (redis !== undefined && (typeof redis !== "object" || redis === null))
    throw new TypeError("redis must be an object: options of ioredis.");
  if (redis?.keyPrefix) throw new TypeError("redis.keyPrefix is not supported: use prefix.");
  if (typeof prefix !== "string" || /[{}\s]/.test(prefix))
    throw new TypeError("prefix must be a text without braces and spaces.");
  for (const [name, value] of Object.entries({ historyBytes, keepMs, timeoutMs })) {
    const least = name === "keepMs" ? 0 : 1;
    if (!(typeof value === "number" && value >= least && value < 2 ** 31))
      throw new RangeError(`${name} must be a number from ${least}, not ${value}.`);
  }
  for (const level of ["debug", "info", "warn", "error"] as const) {
    if (typeof logger?.[level] !== "function")
      throw new TypeError(`logger must have a function ${level}.`);
  }
  return { url, redis, prefix, historyBytes, keepMs, timeoutMs, logger };
}
