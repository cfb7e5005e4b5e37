import { createHash } from "node:crypto";

/** A Lua script: Redis runs it as one step. */
export interface Script {
  readonly lua: string;
  readonly sha: string;
  readonly keys: number;
}

function script(keys: number, lua: string): Script {
  return { lua, keys, sha: createHash("sha1").update(lua).digest("hex") };
}

// ── a job ────────────────────────────────────────────────────────────────────────────────────────

/**
 * Where the log stands. A server that has another run id than the one that wrote it was restarted or
 * promoted, and may have lost the end of it: what it has is the base of another epoch, the same for
 * everybody who asks this server.
 */
const STAND = `
local function with(carried, cursor)
  if string.sub(carried, -#cursor) == cursor then return carried end
  if carried ~= '' then cursor = carried .. ' ' .. cursor end
  return cursor
end
local function stand(head, life)
  local has = redis.call('HMGET', head, 'epoch', 'revision', 'life', 'carried', 'bytes', 'expires', 'young', 'secret')
  if not has[1] then return nil end
  local at = {
    epoch = has[1], revision = tonumber(has[2]), carried = has[4] or '',
    bytes = tonumber(has[5]), expires = tonumber(has[6]), young = tonumber(has[7]) or 0,
    secret = has[8] or '',
  }
  if not (at.revision and at.bytes and at.expires) then error('the head has no revision, bytes or expires') end
  if has[3] ~= life then
    at.former = { epoch = at.epoch, revision = at.revision }
    local last = has[1] .. '.' .. has[2]
    at.carried = with(at.carried, last)
    at.epoch = string.sub(redis.sha1hex(last .. life), 1, 12)
    at.revision = 0
  end
  return at
end
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
`;

/**
 * KEYS head, log · ARGV run id, what the batch is (in one text: base epoch and revision, carried
 * cursor, whether all fields are there, batch id, number of revisions, ttl, whether the job is done,
 * history bytes, keep ms, digest of what is announced, secret of a new epoch; - for none), channel, events,
 * patches ('' for one whose fields say it all), and the fields.
 *
 * The cursor after the batch; false when the log is not at base; 'whole' when a new epoch begins, for
 * which all fields are needed: then nothing was written.
 */
export const append = script(
  2,
  `${STAND}
local head, log = KEYS[1], KEYS[2]
local life, channel, events, patches = ARGV[1], ARGV[3], ARGV[4], ARGV[5]
local base_epoch, base_revision, carries, whole, id, count, ttl, over, history, keep, digest, secret =
  string.match(ARGV[2], '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
local base = base_epoch ~= '-' and base_epoch .. '.' .. base_revision
base_revision, count, ttl = tonumber(base_revision), tonumber(count), tonumber(ttl)
history, keep, whole = tonumber(history), tonumber(keep), whole == '1'
local at = stand(head, life)
local begins = false
if at and at.former and at.former.epoch == base_epoch and at.former.revision == base_revision then
  -- The publisher has not seen the restart, and nothing was lost.
  base_epoch, base_revision = at.epoch, at.revision
end
if not at then
  begins = true
  at = { carried = base or '' }
elseif at.epoch == base_epoch and at.revision == base_revision then
  if carries ~= '-' then
    begins = true
    at.carried = with(at.carried, base)
  end
elseif at.former and at.former.epoch == base_epoch and at.former.revision < base_revision then
  -- The publisher knows all that is here, and more.
  begins = true
  at.carried = with(at.carried, base)
else
  return false
end
if begins and not whole then return 'whole' end
local time = now()
-- Stages that are gone: found before anything is written, since what Redis cannot read as JSON ends the script.
local gone = {}
for n = 6, #ARGV, 2 do
  if ARGV[n] == 'stages' and not begins then
    local stay = {}
    for _, name in ipairs(cjson.decode(ARGV[n + 1])) do stay[name] = true end
    for _, name in ipairs(cjson.decode(redis.call('HGET', head, 'stages'))) do
      if not stay[name] then gone[#gone + 1] = 's:' .. name end
    end
  end
end
-- The stream has to be there: one that was evicted takes its head with it.
local continues = not begins and not at.former and at.revision > 0
if continues then
  local entry = { (at.revision + count) .. '-0', 'b', id, 'n', count, 't', time, 'e', events }
  if not redis.call('XADD', log, 'NOMKSTREAM', unpack(entry)) then
    if not whole then return 'whole' end
    begins = true
    continues = false
    at.carried = with(at.carried, base)
  end
end
if not continues then
  at.young = 0
  -- Refused here when memory is full: nothing is deleted for what cannot be written.
  redis.call('HSET', head, 'life', life)
  redis.call('DEL', log)
  at.bytes = 0
end
if begins then
  redis.call('DEL', head)
  if carries ~= '-' then at.carried = with(at.carried, carries) end
  -- A batch may be appended again after a loss: its name alone would not do.
  at.epoch = string.sub(redis.sha1hex(id .. life .. table.concat(redis.call('TIME'), '.')), 1, 12)
  at.revision = 0
  at.expires = nil
  at.secret = secret
end
at.revision = at.revision + count
if not continues and count > 0 then
  redis.call('XADD', log, at.revision .. '-0', 'b', id, 'n', count, 't', time, 'e', events)
end
at.bytes = at.bytes + #events

-- The oldest go: beyond the history that is kept, unless they are young; beyond 8 times that, at any age.
-- To look at them is to read them: as many as there are to go, and not while the oldest is known to be young.
local young = at.young
if at.bytes > history * 1.125 and (time >= young or at.bytes > history * 8) then
  local average = at.bytes / redis.call('XLEN', log)
  local done = false
  while not done do
    local most = math.min(64, math.ceil((at.bytes - history) / average) + 1)
    if time < young then most = math.min(most, math.ceil((at.bytes - history * 7) / average) + 1) end
    local entries = redis.call('XRANGE', log, '-', '+', 'COUNT', most)
    local cut
    for _, entry in ipairs(entries) do
      local rest = at.bytes - #entry[2][8]
      young = tonumber(entry[2][6]) + keep
      if rest < history or (time < young and rest < history * 7) then
        done = true
        break
      end
      at.bytes = rest
      cut = tonumber(string.match(entry[1], '^%d+'))
    end
    if cut then redis.call('XTRIM', log, 'MINID', (cut + 1) .. '-0') end
    if #entries < most then done = true end
  end
end

local fields = {
  'epoch', at.epoch, 'revision', at.revision, 'life', life, 'bytes', at.bytes,
}
if begins then
  fields[#fields + 1] = 'secret'
  fields[#fields + 1] = secret
end
if young ~= at.young then
  fields[#fields + 1] = 'young'
  fields[#fields + 1] = young
end
if at.carried ~= '' and not continues then
  local cursors = {}
  for cursor in string.gmatch(at.carried, '%S+') do cursors[#cursors + 1] = cursor end
  fields[#fields + 1] = 'carried'
  fields[#fields + 1] = table.concat(cursors, ' ', math.max(1, #cursors - 15))
end
local expires = time + ttl
-- Not at each event of a burst; but the last one has another time than those before.
local done = over == '1'
if not at.expires or math.abs(expires - at.expires) > ttl / 100 or not continues or done then
  fields[#fields + 1] = 'expires'
  fields[#fields + 1] = expires
else
  expires = nil
end
for n = 6, #ARGV do fields[#fields + 1] = ARGV[n] end
for n = 1, #gone, 2000 do
  redis.call('HDEL', head, unpack(gone, n, math.min(n + 1999, #gone)))
end
for n = 1, #fields, 2000 do
  redis.call('HSET', head, unpack(fields, n, math.min(n + 1999, #fields)))
end
if expires then
  -- The head outlives the stream: who reads a done job's last run needs no history.
  local forget = done and 2 * ttl or ttl
  redis.call('PEXPIRE', head, math.ceil(forget + math.min(1000, ttl / 10)))
  redis.call('PEXPIRE', log, ttl)
end
local cursor = at.epoch .. '.' .. at.revision
-- The secret on both sides of it: whoever hears one proof cannot make another.
local proof = redis.sha1hex(at.secret .. cursor .. ' ' .. id .. ' ' .. digest .. at.secret)
local text = cursor .. ' ' .. id .. ' ' .. string.sub(proof, 1, 32)
if count == 1 and patches == '' then patches = table.concat(ARGV, '\\n', 6) end
if count > 0 then text = text .. '\\n' .. events .. '\\n' .. patches end
redis.call('PUBLISH', channel, text)
return cursor
`,
);

/**
 * KEYS head, log · ARGV run id, the cursor of the state that the reader has (or -), and, if it asks for
 * history, epoch and revision after which: nil, or the cursor, what it carries, whether its time is
 * over, the secret of its announcements, the head's fields (none when the reader has them), the texts of the
 * events, batch by batch.
 */
export const read = script(
  2,
  `${STAND}
local at = stand(KEYS[1], ARGV[1])
if not at then return nil end
local cursor = at.epoch .. '.' .. at.revision
local fields = ARGV[2] ~= cursor and redis.call('HGETALL', KEYS[1]) or {}
local events = {}
if ARGV[3] and not at.former then
  local from = ARGV[3] == at.epoch and (tonumber(ARGV[4]) + 1) .. '-0' or '-'
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], from, '+')) do
    events[#events + 1] = entry[2][8]
  end
end
local expired = now() >= at.expires and 1 or 0
return { cursor, at.carried, expired, at.secret, fields, events }
`,
);

/** KEYS head · ARGV run id: nil, or the cursor, the time at which it is over, whether it is, the fields without those of the stages. */
export const summary = script(
  1,
  `${STAND}
local at = stand(KEYS[1], ARGV[1])
if not at then return nil end
local names = { 'keys' }
for _, key in ipairs(cjson.decode(redis.call('HGET', KEYS[1], 'keys'))) do
  if key ~= 'stages' then names[#names + 1] = 'j:' .. key end
end
local fields = {}
for n, value in ipairs(redis.call('HMGET', KEYS[1], unpack(names))) do
  fields[2 * n - 1] = names[n]
  fields[2 * n] = value
end
local expired = now() >= at.expires and 1 or 0
return { at.epoch .. '.' .. at.revision, at.expires, expired, fields }
`,
);

/** KEYS head, log · ARGV run id, batch id: nil, or the cursor after it. What a former life has of it is in the base of this one. */
export const find = script(
  2,
  `${STAND}
local at = stand(KEYS[1], ARGV[1])
if not at then return nil end
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 64)) do
  if entry[2][2] == ARGV[2] then
    return at.epoch .. '.' .. (at.former and 0 or string.match(entry[1], '^%d+'))
  end
end
return nil
`,
);

// ── the index ────────────────────────────────────────────────────────────────────────────────────

/** What stands in the index of a job; nil for what cannot be read, which is written anew. */
const ENTRY = `
local function entry(text)
  local read, it = pcall(cjson.decode, text or '')
  if read and type(it) == 'table' and type(it[2]) == 'number' and type(it[3]) == 'table' then return it end
end
`;

/**
 * KEYS entries, expiry · ARGV run id, prefix of the sets, job, epoch, revision, createdAt, expires, sets (JSON).
 * Puts a job into its sets and takes it out of its former ones, unless it is known at a later revision;
 * answers with some jobs whose time is over, and their entries, in turn.
 */
export const index = script(
  2,
  `${ENTRY}
local prefix, job, epoch, revision, sets = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[8]
local old = entry(redis.call('HGET', KEYS[1], job))
if not (old and old[1] == epoch and old[2] > revision) then
  if old then
    for _, set in ipairs(old[3]) do redis.pcall('ZREM', prefix .. set, job) end
  end
  sets = cjson.decode(sets)
  for _, set in ipairs(sets) do redis.call('ZADD', prefix .. set, ARGV[6], job) end
  redis.call('HSET', KEYS[1], job, cjson.encode({ epoch, revision, sets }))
  redis.call('ZADD', KEYS[2], ARGV[7], job)
end
local time = redis.call('TIME')
local over = {}
for _, other in ipairs(redis.call('ZRANGE', KEYS[2], '-inf', time[1] * 1000, 'BYSCORE', 'LIMIT', 0, 8)) do
  over[#over + 1] = other
  over[#over + 1] = redis.call('HGET', KEYS[1], other) or ''
end
return over
`,
);

/**
 * KEYS entries, expiry · ARGV run id, prefix of the sets, job, the entry that was seen, the sets that it was
 * found in: takes it out, unless it was put in again.
 */
export const unindex = script(
  2,
  `${ENTRY}
local prefix, job = ARGV[2], ARGV[3]
local seen = redis.call('HGET', KEYS[1], job)
if seen and seen ~= ARGV[4] then return 0 end
for n = 5, #ARGV do redis.call('ZREM', prefix .. ARGV[n], job) end
for _, set in ipairs((entry(seen) or { [3] = {} })[3]) do
  redis.pcall('ZREM', prefix .. set, job)
end
redis.call('HDEL', KEYS[1], job)
redis.call('ZREM', KEYS[2], job)
return 1
`,
);

/**
 * KEYS entries, expiry · ARGV run id, prefix of the sets, sets: deletes those that are of another type than the
 * index makes them, and answers with their names.
 */
export const mend = script(
  2,
  `
local gone = {}
local function mend(key, kind)
  local is = redis.call('TYPE', key).ok
  if is == kind or is == 'none' then return end
  redis.call('DEL', key)
  gone[#gone + 1] = key
end
mend(KEYS[1], 'hash')
mend(KEYS[2], 'zset')
for n = 3, #ARGV do mend(ARGV[2] .. ARGV[n], 'zset') end
return gone
`,
);

/**
 * KEYS entries · ARGV run id, prefix of the sets, createdAt and job to begin after ('+inf' and '': the newest),
 * most, sets. Of the smallest set, newest first: jobs, their createdAt and their entries in turn.
 */
export const page = script(
  1,
  `
local prefix, newest, after, most = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
-- By bytes, as sorted sets are: what < says depends on the locale that Redis was started in.
local function less(one, other)
  for n = 1, math.min(#one, #other) do
    local a, b = string.byte(one, n), string.byte(other, n)
    if a ~= b then return a < b end
  end
  return #one < #other
end
local smallest, size
for n = 6, #ARGV do
  local count = redis.call('ZCARD', prefix .. ARGV[n])
  if not size or count < size then smallest, size = prefix .. ARGV[n], count end
end
local found = {}
local offset = 0
while #found < 3 * most do
  local jobs = redis.call('ZRANGE', smallest, newest, '-inf', 'BYSCORE', 'REV', 'LIMIT', offset, most, 'WITHSCORES')
  for n = 1, #jobs, 2 do
    -- Of those created in the same moment, the job decides.
    if #found < 3 * most and (jobs[n + 1] ~= newest or less(jobs[n], after)) then
      found[#found + 1] = jobs[n]
      found[#found + 1] = jobs[n + 1]
      found[#found + 1] = redis.call('HGET', KEYS[1], jobs[n]) or ''
    end
  end
  if #jobs < 2 * most then break end
  offset = offset + most
end
return found
`,
);

/** KEYS secret · ARGV run id, a new secret. The one that there is, else this one from now on. */
export const secret = script(
  1,
  `
local known = redis.call('GET', KEYS[1])
if not known then redis.call('SET', KEYS[1], ARGV[2]) end
return known or ARGV[2]
`,
);
