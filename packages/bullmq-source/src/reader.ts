import { type ConnectionOptions, RedisConnection } from "bullmq";
import { type Damage, GUARD, type RawDamage, readDamage } from "./damage.js";
import { type Answer, KIDS_UNWANTED, LOOK_SCRIPT, NO_KIDS_YET, readAnswer } from "./facts.js";
import { type QueueRef, STREAM_START } from "./keys.js";
import { EVENTS_SCRIPT, type Page, readPage } from "./stream.js";

/** What is asked about a job. */
interface Ask {
  id: string;
  /** How many children are known; undefined: they do not matter. */
  kidsKnown: number | undefined;
  wantsProgress: boolean;
}

interface Listing {
  /** Where the queue's event stream stood. */
  newest: string;
  /** Ids of those that live, and of those that ended. */
  live: string[];
  ended: string[];
  /** Keys of the queue that cannot be read. */
  damages: Damage[];
}

export interface ListOptions {
  /** Only those that have begun. */
  begun: boolean;
  /** Most ids. */
  limit: number;
  /** Also those that ended after this time; milliseconds since 1970. */
  endedSince?: number;
}

/** Reads from BullMQ's keys, over one connection. What it is asked while Redis is away waits. */
export interface Reader {
  /** Looks at jobs of one queue, in one step for each 100 of them. */
  look(queue: QueueRef, asks: readonly Ask[]): Promise<Answer>;
  /** The live jobs of a queue, those that have begun first. */
  list(queue: QueueRef, options: ListOptions): Promise<Listing>;
  /** Events of a queue after one place and up to another, in order. */
  events(queue: QueueRef, after: string, upTo: string): Promise<Page>;
  /** The same of jobs whose record is gone. */
  eventsOfGone(queue: QueueRef, after: string, upTo: string): Promise<Page>;
  close(): Promise<void>;
}

const LOOK = "workflowMonitorLook";
const LIST = "workflowMonitorList";
const EVENTS = "workflowMonitorEvents";
const LOOKS_A_STEP = 100;
const MOST_ENDED = 1_000;

/** KEYS[1] the queue's event stream; ARGV: 1 `<prefix>:<queue>:`, 2 limit, 3 begun only, 4 ended since, or nothing. */
const LIST_SCRIPT = `${GUARD}
local base, limit = ARGV[1], tonumber(ARGV[2])
local damages = {}
local function read(command, key, ...)
  local found, broken = guarded(call, command, key, ...)
  if broken then damages[#damages + 1] = broken end
  return found or {}
end
local newest = read("XREVRANGE", KEYS[1], "+", "-", "COUNT", 1)[1]
newest = newest and newest[1] or false
if limit == 0 then return { newest, {}, {}, damages } end
local ids = {}
local function add(more)
  for _, id in ipairs(more) do
    if #ids < limit then ids[#ids + 1] = id end
  end
end
add(read("LRANGE", base .. "active", 0, limit - 1))
add(read("ZRANGE", base .. "waiting-children", 0, limit - 1))
if ARGV[3] == "0" then
  add(read("ZRANGE", base .. "prioritized", 0, limit - 1))
  add(read("LRANGE", base .. "wait", -limit, -1))
  add(read("LRANGE", base .. "paused", -limit, -1))
  add(read("ZRANGE", base .. "delayed", 0, limit - 1))
end
local live = ids
ids = {}
if ARGV[4] ~= "" then
  for _, set in ipairs({ "completed", "failed" }) do
    add(read("ZREVRANGEBYSCORE", base .. set, "+inf", ARGV[4], "LIMIT", 0, ${MOST_ENDED}))
  end
end
return { newest, live, ids, damages }
`;

export interface ReaderOptions {
  connection: ConnectionOptions;
  onError(error: Error): void;
  /** The connection is there, for the first time or again. */
  onReady(): void;
}

export function createReader({ connection, onError, onReady }: ReaderOptions): Reader {
  let current: RedisConnection | undefined;
  let closed = false;

  /** A client; after one that gave up (the host's retryStrategy said so) a new one. */
  function connect(): RedisConnection {
    if (closed) throw new Error("The source is closed.");
    if (current) return current;
    const fresh = new RedisConnection(duplicate(connection), {
      blocking: false,
      skipVersionCheck: true, // it would print what it thinks of the version
    });
    fresh.on("error", onError);
    fresh.on("ready", onReady);
    fresh.client.then((client) => client.on("end", () => giveUp(fresh))).catch(() => giveUp(fresh));
    current = fresh;
    return fresh;
  }

  function giveUp(former: RedisConnection): void {
    if (current === former) current = undefined;
  }

  async function run(name: string, args: (string | number)[]): Promise<unknown> {
    const client = await connect().client;
    // Once a client: to define it again costs nothing, to ask whether it is there differs by driver.
    if (!defined.has(client)) {
      defined.add(client);
      client.defineCommand(LOOK, { numberOfKeys: 1, lua: LOOK_SCRIPT });
      client.defineCommand(LIST, { numberOfKeys: 1, lua: LIST_SCRIPT });
      client.defineCommand(EVENTS, { numberOfKeys: 1, lua: EVENTS_SCRIPT });
    }
    return client.runCommand(name, args);
  }
  const defined = new WeakSet<object>();

  return {
    async look(queue, asks) {
      const steps: Promise<Answer>[] = [];
      for (let from = 0; from < asks.length; from += LOOKS_A_STEP) {
        const args = asks.slice(from, from + LOOKS_A_STEP).flatMap(fields);
        steps.push(run(LOOK, [`${queue.base}events`, queue.base, ...args]).then(readAnswer));
      }
      const answers = await Promise.all(steps);
      return {
        oldest: answers[0]?.oldest ?? STREAM_START,
        looks: answers.flatMap(({ looks }) => looks),
        damages: answers[0]?.damages ?? [],
      };
    },

    async list(queue, { begun, limit, endedSince }) {
      const args = [queue.base, limit, begun ? 1 : 0, endedSince ?? ""];
      const raw = await run(LIST, [`${queue.base}events`, ...args]);
      const [newest, live, ended, damages] = raw as [Text, string[], string[], RawDamage[]];
      return { newest: newest ?? STREAM_START, live, ended, damages: damages.map(readDamage) };
    },

    async events(queue, after, upTo) {
      return readPage(await run(EVENTS, [`${queue.base}events`, after, upTo, ""]));
    },

    async eventsOfGone(queue, after, upTo) {
      return readPage(await run(EVENTS, [`${queue.base}events`, after, upTo, queue.base]));
    },

    async close() {
      closed = true;
      await current?.close(true).catch(onError);
    },
  };
}

type Text = string | null;

const fields = ({ id, kidsKnown, wantsProgress }: Ask): (string | number)[] => [
  id,
  kidsKnown === undefined ? KIDS_UNWANTED : kidsKnown || NO_KIDS_YET,
  wantsProgress ? 1 : 0,
];

/** An instance would be shared: a copy of it is our own. */
function duplicate(connection: ConnectionOptions): ConnectionOptions {
  const { duplicate } = connection as { duplicate?: () => ConnectionOptions };
  return typeof duplicate === "function" ? duplicate.call(connection) : connection;
}
