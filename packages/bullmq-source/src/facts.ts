import { type Damage, GUARD, type RawDamage, readDamage } from "./damage.js";
import { STREAM_START } from "./keys.js";

/** What BullMQ knows of a job, read in one step. */
export interface Facts {
  state: "completed" | "failed" | "active" | "delayed" | "waiting" | "waiting-children";
  /** Its queue is paused. */
  paused: boolean;
  name: string;
  /** When it was added, began its last try, ended; milliseconds since 1970. */
  createdAt: number | undefined;
  processedAt: number | undefined;
  finishedAt: number | undefined;
  /** Tries that are over, and times that a worker took it. */
  made: number;
  started: number;
  stalled: number;
  /** How often it may be tried. */
  attempts: number;
  failedReason: string | undefined;
  /** JSON, as it was given to `updateProgress`; only if asked for. */
  progress: string | undefined;
  /** The key of the job that waits for it. */
  parentKey: string | undefined;
  /** It may fail, and the one that waits for it goes on. */
  mayFail: boolean;
}

/** Children of a job by what BullMQ says of them: keys. */
export interface Kids {
  open: string[];
  completed: string[];
  failed: string[];
}

export interface Look {
  /** Where the queue's event stream stood: everything up to there is in the facts. */
  at: string;
  /** Undefined: there is no such job, or it cannot be read. */
  facts: Facts | undefined;
  /** Why it cannot be read. */
  damage: Damage | undefined;
  /** How many children it has; undefined when nobody asked. */
  kidCount: number | undefined;
  /** Given when their number is not the one that the asker knew. */
  kids: Kids | undefined;
}

/** Looks at jobs of one queue, and the oldest event that its stream still has. */
export interface Answer {
  oldest: string;
  looks: Look[];
  /** Keys of the queue itself that cannot be read. */
  damages: Damage[];
}

/** Most children of one job, of each kind, that are looked at. */
const MOST_KIDS = 5_000;
const MOST_PROGRESS_BYTES = 65_536;

/** How many children the asker knows: so many, none yet, or he does not want to know. */
export const NO_KIDS_YET = -1;
export const KIDS_UNWANTED = -2;

/**
 * Everything about some jobs of a queue in one step, so that nothing changes in between. KEYS[1] the
 * queue's event stream; ARGV: 1 `<prefix>:<queue>:`, then for each job its id, how many children are
 * known, and whether its progress is wanted. What is in no set is in the list of those that wait,
 * which may be long: it is not searched.
 */
export const LOOK_SCRIPT = `${GUARD}
local base = ARGV[1]
local damages = {}
local function ofQueue(read)
  local found, broken = guarded(read)
  if broken then damages[#damages + 1] = broken end
  return found
end
local newest = ofQueue(function() return call("XREVRANGE", KEYS[1], "+", "-", "COUNT", 1)[1] end)
local oldest = ofQueue(function() return call("XRANGE", KEYS[1], "-", "+", "COUNT", 1)[1] end)
local paused = ofQueue(function() return call("HEXISTS", base .. "meta", "paused") end)

local function some(all)
  for i = #all, ${MOST_KIDS} + 1, -1 do all[i] = nil end
  return all
end

local function look(id, known, wantsProgress)
  local key = base .. id
  if call("EXISTS", key) == 0 then return {} end
  local state = "waiting"
  if call("ZSCORE", base .. "completed", id) then state = "completed"
  elseif call("ZSCORE", base .. "failed", id) then state = "failed"
  elseif call("ZSCORE", base .. "delayed", id) then state = "delayed"
  elseif call("ZSCORE", base .. "waiting-children", id) then state = "waiting-children"
  elseif call("ZSCORE", base .. "prioritized", id) then state = "waiting"
  elseif call("LPOS", base .. "active", id) then state = "active" end

  local fields = call("HMGET", key, "name", "timestamp", "processedOn", "finishedOn", "atm", "ats",
    "stc", "failedReason", "parentKey", "parent", "opts")
  if fields[8] then fields[8] = string.sub(fields[8], 1, 4096) end
  local ok, opts = pcall(cjson.decode, fields[11] or "")
  local attempts = ok and type(opts) == "table" and opts.attempts
  fields[11] = type(attempts) == "number" and tostring(attempts) or false
  fields[12] = wantsProgress == "1" and call("HSTRLEN", key, "progress") <= ${MOST_PROGRESS_BYTES}
    and call("HGET", key, "progress")

  local count, kids = -1, false
  if known > ${KIDS_UNWANTED} then
    count = call("SCARD", key .. ":dependencies") + call("HLEN", key .. ":processed")
      + call("HLEN", key .. ":failed") + call("ZCARD", key .. ":unsuccessful")
    if count ~= known and count > 0 then
      kids = {
        some(call("SMEMBERS", key .. ":dependencies")),
        some(call("HKEYS", key .. ":processed")),
        some(call("HKEYS", key .. ":failed")),
        call("ZRANGE", key .. ":unsuccessful", 0, ${MOST_KIDS} - 1),
      }
    end
  end
  return { state, count, kids, fields }
end

local looks = {}
for i = 2, #ARGV, 3 do
  local found, broken = guarded(look, ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2])
  looks[#looks + 1] = found or { "damaged", -1, false, broken }
end
return { newest and newest[1] or false, oldest and oldest[1] or false, paused, looks, damages }
`;

type RawLook =
  | []
  | ["damaged", -1, null, RawDamage]
  | [Facts["state"], number, [string[], string[], string[], string[]] | null, (string | null)[]];
type RawAnswer = [string | null, string | null, number | null, RawLook[], RawDamage[]];

export function readAnswer(raw: unknown): Answer {
  const [newest, oldest, paused, looks, damages] = raw as RawAnswer;
  const at = newest ?? STREAM_START;
  return {
    oldest: oldest ?? STREAM_START,
    looks: looks.map((look) => readLook(look, at, paused === 1)),
    damages: damages.map(readDamage),
  };
}

function readLook(look: RawLook, at: string, paused: boolean): Look {
  const nothing = { at, facts: undefined, damage: undefined, kidCount: undefined, kids: undefined };
  if (look[0] === undefined) return nothing;
  if (look[0] === "damaged") return { ...nothing, damage: readDamage(look[3]) };
  const [state, count, kids, fields] = look;
  return {
    ...nothing,
    facts: readFacts(state, paused, fields),
    kidCount: count >= 0 ? count : undefined,
    kids: kids
      ? { open: kids[0], completed: kids[1], failed: [...kids[2], ...kids[3]] }
      : undefined,
  };
}

function readFacts(state: Facts["state"], paused: boolean, fields: (string | null)[]): Facts {
  const text = (at: number) => fields[at] ?? undefined;
  const parent = readParent(text(9));
  return {
    state,
    paused,
    name: text(0) ?? "",
    createdAt: time(text(1)),
    processedAt: time(text(2)),
    finishedAt: time(text(3)),
    made: number(text(4)),
    started: number(text(5)),
    stalled: number(text(6)),
    attempts: Math.max(1, number(text(10))),
    failedReason: text(7),
    progress: text(11),
    parentKey: text(8) || parent.key,
    mayFail: parent.mayFail,
  };
}

const MOST = 2 ** 31;

/** A count; 0 where there is none. */
function number(text: string | undefined): number {
  const count = Math.floor(Number(text ?? 0));
  return count > 0 ? Math.min(count, MOST) : 0;
}

/** Years of four digits: others the monitor would refuse. */
function time(text: string | undefined): number | undefined {
  const at = Number(text ?? Number.NaN);
  return at >= 0 && at < 253_402_300_800_000 ? Math.floor(at) : undefined;
}

/** What BullMQ writes into a child: where its parent is, and what its failure means to it. */
function readParent(json: string | undefined): { key?: string; mayFail: boolean } {
  try {
    const parent = JSON.parse(json ?? "{}") as Record<string, unknown>;
    const { id, queueKey, cpof, idof, rdof } = parent;
    return {
      mayFail: [cpof, idof, rdof].includes(true),
      ...(typeof queueKey === "string" && id !== undefined && { key: `${queueKey}:${id}` }),
    };
  } catch {
    return { mayFail: false };
  }
}
