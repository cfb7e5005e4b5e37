import { shown } from "./keys.js";

/** A Redis key that is of another type than BullMQ writes there. */
export interface Damage {
  key: string;
  /** Its type, in Redis' words. */
  type: string;
}

/**
 * The beginning of each script that reads. A damaged key fails only the `guarded` function that reads
 * it: its second result is then the key and its type. All other errors fail the script.
 */
export const GUARD = `
local damage
local function call(command, key, ...)
  local found = redis.pcall(command, key, ...)
  if type(found) ~= "table" or not found.err then return found end
  if string.find(found.err, "WRONGTYPE", 1, true) then
    damage = { key, redis.call("TYPE", key).ok }
  end
  error(found.err, 0)
end
local function guarded(read, ...)
  damage = nil
  local isRead, found = pcall(read, ...)
  if isRead then return found end
  if not damage then error(found, 0) end
  return false, damage
end
`;

/** Damage as the scripts return it. */
export type RawDamage = [key: string, type: string];

export const readDamage = ([key, type]: RawDamage): Damage => ({ key, type });

/** What is wrong, what that costs, and what to do. */
export const complaint = ({ key, type }: Damage, costAndRemedy: string): string =>
  `Redis key ${shown(key)} is a ${type}, not what BullMQ keeps there (WRONGTYPE): ${costAndRemedy}`;
