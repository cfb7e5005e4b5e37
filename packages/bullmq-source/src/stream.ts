import { GUARD } from "./damage.js";
import type { QueueEvent } from "./queue-watch.js";

/** Most entries of a queue's event stream that are read in one step. */
const PAGE = 1_000;

/**
 * A page of a queue's event stream, without what jobs returned. KEYS[1] the stream; ARGV: 1 the place
 * after which it begins, 2 the place at which it ends; 3 `<prefix>:<queue>:` for the events of jobs
 * whose record is gone, or nothing for all events. Returns the events, and the place of the page's
 * last entry unless it is the last page.
 */
export const EVENTS_SCRIPT = `${GUARD}
local base = ARGV[3]
local function read() return call("XRANGE", KEYS[1], "(" .. ARGV[1], ARGV[2], "COUNT", ${PAGE}) end
local page = guarded(read) or {}

local isGone = {}
local function isWanted(id)
  if base == "" then return true end
  if not id then return false end
  if isGone[id] == nil then isGone[id] = redis.call("EXISTS", base .. id) == 0 end
  return isGone[id]
end
local events = {}
for _, entry in ipairs(page) do
  local fields = {}
  for at = 1, #entry[2] - 1, 2 do fields[entry[2][at]] = entry[2][at + 1] end
  if isWanted(fields.jobId) then
    events[#events + 1] = { entry[1], fields.event or false, fields.jobId or false,
      fields.name or false, fields.prev or false, fields.data or false,
      fields.failedReason or false }
  end
end
return { events, #page == ${PAGE} and page[#page][1] }
`;

type Text = string | null;
type RawEvent = [string, Text, Text, Text, Text, Text, Text];

/** A page of events, and the place after which the next page begins; undefined: there is none. */
export interface Page {
  events: QueueEvent[];
  next: string | undefined;
}

export function readPage(raw: unknown): Page {
  const [events, next] = raw as [RawEvent[], Text];
  return { events: events.flatMap(readEvent), next: next ?? undefined };
}

/** An entry as an event; nothing where it is none. */
function readEvent([id, name, jobId, jobName, prev, data, failedReason]: RawEvent): QueueEvent[] {
  if (name === null) return [];
  const event = {
    ...{ name, id },
    jobId: jobId ?? undefined,
    jobName: jobName ?? undefined,
    prev: prev ?? undefined,
    failedReason: failedReason ?? undefined,
  };
  if (name !== "progress") return [{ ...event, data: undefined }];
  try {
    return [{ ...event, data: JSON.parse(data ?? "") }];
  } catch {
    return []; // QueueEvents cannot read it either, and complains
  }
}
