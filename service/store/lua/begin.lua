-- begin: user message + turn + `turn.started` + lease, atomically; or why not.
-- Repeating it with the same turn id is harmless (it answers BEGUN again).
--
-- KEYS  1 session  2 order  3 messages  4 turns  5 queue  6 turn  7 log  8 idempotency entry
-- ARGV  1 turn id  2 owner  3 lease ms  4 session ttl s  5 ephemeral ttl s  6 log ttl s
--       7 idempotency ttl s  8 fingerprint ('' = no key)  9 mode append|edit|regenerate
--       10 user message id  11 user message JSON ('' for a regenerate that keeps it)
--       12 on_busy reject|queue|check (nothing is begun)  13 max queued  14 named 0|1  15 must exist 0|1
--       16 started payload  17 now ms of the worker (for `created`, `updated`)
--       18 until when it may begin (ms, 0 = always): a Redis that stood still begins nothing afterwards
--       19 number of turn fields, then field, value, ...
--       then number of session defaults, then field, value, ... (set where the session is new; each that
--       is missing where it was made beforehand and nothing has been said in it)
--       then seeds required 0|1 (0: a session that has messages does without them)
--       then number of seeds, then id, role, JSON, ...
--       then number of the ids that stand before the message at its client, then those, newest first ('' = the
--       beginning): an append cuts off what the session has behind the first of them that it knows
-- Returns {BEGUN, state, epoch, user message id, answer position, turns of its session, messages that an
--         append has cut off (not where it is repeated)} | {KNOWN, turn id} |
--         {MISMATCH, turn id} | {BUSY, turn id} | {HAS_HISTORY} | {NO_SESSION} | {NO_MESSAGE} |
--         {MESSAGE_EXISTS} | {FREE} (check) | {LATE}
local function history()
-- include history
end
local session, order, messages, turns, queue, turn, log, idem = unpack(KEYS)
local id, owner, mode, message_id, message = ARGV[1], ARGV[2], ARGV[9], ARGV[10], ARGV[11]

local begun = redis.call('HMGET', turn, 'state', 'epoch', 'user', 'pos')
if begun[1] then
  return {'BEGUN', begun[1], begun[2], begun[3], begun[4], redis.call('HGET', session, 'turns') or '0'}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[18] ~= '0' and now > tonumber(ARGV[18]) then return {'LATE'} end

local fingerprint = ARGV[8]
if fingerprint ~= '' then
  local known = redis.call('HMGET', idem, 'turn', 'fingerprint')
  if known[1] then
    return {known[2] == fingerprint and 'KNOWN' or 'MISMATCH', known[1]}
  end
end

local exists = redis.call('EXISTS', session) == 1
-- Without `must exist`, a message that is not there is appended (its client has it, we do not).
if mode ~= 'append' and message ~= '' and ARGV[15] == '0'
  and not redis.call('ZSCORE', order, message_id) then
  mode = 'append'
end
if ARGV[15] == '1' and not exists then return {'NO_SESSION'} end

local at = 20
local fields = {}
for i = at, at + 2 * tonumber(ARGV[19]) - 1 do fields[#fields + 1] = ARGV[i] end
at = at + #fields
local defaults = {}
for i = at + 1, at + 2 * tonumber(ARGV[at]) do defaults[#defaults + 1] = ARGV[i] end
at = at + #defaults + 1
-- A send that named no session and failed is repeated: its question is in the session of its key already,
-- the newest there, and keeps its id. (Sessions older than the field `asked_id` go without it.)
local again = false
if ARGV[14] == '0' and fingerprint ~= '' then
  local asked = redis.call('HMGET', session, 'asked', 'asked_id')
  local newest = redis.call('ZREVRANGE', order, 0, 0, 'WITHSCORES')
  again = asked[1] == fingerprint and newest[1] and newest[2] % 2 == 0
    and (not asked[2] or asked[2] == newest[1])
  if again then message_id = newest[1] end
end
local seeds = tonumber(ARGV[at + 1])
local before = at + 2 + 3 * seeds
if seeds > 0 and redis.call('EXISTS', order) == 1 then
  if ARGV[at] == '1' and not again then return {'HAS_HISTORY'} end
  seeds = 0
end
at = at + 1

-- Behind which place do the messages go? A question goes with its answer, of which a client may know nothing.
local function behind(place)
  if place % 2 == 1 then return place end
  local after = redis.call('ZRANGEBYSCORE', order, '(' .. place, '+inf', 'WITHSCORES', 'LIMIT', 0, 8)
  for i = 2, #after, 2 do
    if after[i] % 2 == 0 then return after[i] - 1 end
  end
end

local position, cut
if mode == 'append' then
  -- The newest message without an answer is sent again after a failure: it takes its old place.
  position = tonumber(redis.call('ZSCORE', order, message_id) or nil)
  local newest = redis.call('ZREVRANGE', order, 0, 0)[1] == message_id
  if position and (position % 2 == 1 or not newest) then return {'MESSAGE_EXISTS'} end
  for i = before + 1, before + (position and 0 or ARGV[before]) do
    local place = ARGV[i] == '' and 0 or tonumber(redis.call('ZSCORE', order, ARGV[i]) or nil)
    if place then
      cut = behind(place)
      break
    end
  end
  if cut and redis.call('ZCOUNT', order, '(' .. cut, '+inf') == 0 then cut = nil end
else
  -- A user message has an even position, the answer to it the odd one after it.
  if message_id == '' then
    for _, candidate in ipairs(redis.call('ZREVRANGE', order, 0, 7)) do
      if redis.call('ZSCORE', order, candidate) % 2 == 0 then
        message_id = candidate
        break
      end
    end
  end
  position = tonumber(redis.call('ZSCORE', order, message_id) or '1')
  if position % 2 == 1 then return {'NO_MESSAGE'} end
  cut = position
end

-- After all other refusals: what would be refused anyway must not interrupt an answer.
local state = 'running'
local active = redis.call('HGET', session, 'active')
if active then
  if ARGV[12] ~= 'queue' or cut or redis.call('LLEN', queue) >= tonumber(ARGV[13]) then
    return {'BUSY', active}
  end
  if position then return {'MESSAGE_EXISTS'} end
  state = 'queued'
end
-- Would the store write? No message has this id, so nothing changes; but Redis asks of it what it asks of
-- a write that needs memory. Of what follows it asks nothing more: begun is then begun whole.
redis.call('ZADD', order, 'XX', 0, '\0')
if ARGV[12] == 'check' then return {'FREE'} end

-- What the session's messages hold is counted in its field `bytes`: their JSON, their ids twice, 160 for
-- what Redis keeps of each beside. A session of before the field is measured once.
local bytes = 0
local function weight(message_id)
  local size = redis.call('HSTRLEN', messages, message_id)
  return size > 0 and size + 2 * #message_id + 160 or 0
end
if exists and redis.call('HEXISTS', session, 'bytes') == 0 and redis.call('EXISTS', messages) == 1 then
  local measured = redis.pcall('MEMORY', 'USAGE', messages, 'SAMPLES', 0)
  bytes = type(measured) == 'number' and measured or 0
end
local function put(message_id, body)
  bytes = bytes - weight(message_id)
  redis.call('HSET', messages, message_id, body)
  bytes = bytes + weight(message_id)
end

local off = {}
if cut then
  off = redis.call('ZRANGEBYSCORE', order, '(' .. cut, '+inf')
  redis.call('ZREMRANGEBYSCORE', order, '(' .. cut, '+inf')
  for i = 1, #off, 1000 do
    local last = math.min(i + 999, #off)
    for j = i, last do bytes = bytes - weight(off[j]) end
    redis.call('HDEL', messages, unpack(off, i, last))
  end
end

if not exists then
  redis.call('HSET', session, 'created', ARGV[17], 'named', ARGV[14])
  -- Where only the session's hash was lost (evicted), the numbering goes on behind what is there still.
  local last = redis.call('ZREVRANGE', order, 0, 0, 'WITHSCORES')[2]
  if last then redis.call('HSET', session, 'seq', math.floor(last / 2), 'turns', redis.call('LLEN', turns)) end
  if #defaults > 0 then redis.call('HSET', session, unpack(defaults)) end
elseif redis.call('EXISTS', order, turns) == 0 then
  for i = 1, #defaults, 2 do redis.call('HSETNX', session, defaults[i], defaults[i + 1]) end
end
if ARGV[14] == '1' then redis.call('HSET', session, 'named', '1') end
if ARGV[14] == '0' and fingerprint ~= '' then
  redis.call('HSET', session, 'asked', fingerprint, 'asked_id', message_id)
end
local named = redis.call('HGET', session, 'named')

-- Some hundred messages a command: three commands for each had been 15 us, 30 ms for the longest history.
if seeds > 0 then
  local slot = redis.call('HINCRBY', session, 'seq', seeds) - seeds
  local weights = {}  -- of each id once: there are no messages yet, but a page may send one twice
  for first = 0, seeds - 1, 500 do
    local places, bodies = {}, {}
    for i = first, math.min(first + 499, seeds - 1) do
      local seed_id, role, body = ARGV[at + 1 + 3 * i], ARGV[at + 2 + 3 * i], ARGV[at + 3 + 3 * i]
      slot = slot + 1
      places[#places + 1], places[#places + 2] = role == 'user' and 2 * slot or 2 * slot + 1, seed_id
      bodies[#bodies + 1], bodies[#bodies + 2] = seed_id, body
      weights[seed_id] = #body + 2 * #seed_id + 160
    end
    redis.call('ZADD', order, unpack(places))
    redis.call('HSET', messages, unpack(bodies))
  end
  for _, size in pairs(weights) do bytes = bytes + size end
end
if not position then
  position = 2 * redis.call('HINCRBY', session, 'seq', 1)
  redis.call('ZADD', order, position, message_id)
end
if message ~= '' then put(message_id, message) end
redis.call('HINCRBY', session, 'bytes', bytes)

redis.call('HSET', turn, 'v', '1', 'id', id, 'state', state, 'epoch', '1', 'owner', owner, 'attempt', '0',
  'user', message_id, 'pos', position + 1, 'reader_at', now, 'created', ARGV[17], 'started', ARGV[16],
  'history', history(),
  'lease', state == 'running' and now + tonumber(ARGV[3]) or 0, 'last', state == 'running' and 1 or 0,
  unpack(fields))
redis.call('RPUSH', turns, id)
if state == 'running' then
  redis.call('XADD', log, '1-0', 'e', ARGV[16])
  redis.call('HSET', session, 'active', id)
  redis.call('EXPIRE', log, ARGV[6])
else
  redis.call('RPUSH', queue, id)
end
local count = redis.call('HINCRBY', session, 'turns', 1)
redis.call('HSET', session, 'updated', ARGV[17])
if fingerprint ~= '' then
  redis.call('HSET', idem, 'turn', id, 'fingerprint', fingerprint)
  redis.call('EXPIRE', idem, ARGV[7])
end
local ttl = named == '1' and ARGV[4] or ARGV[5]
for _, key in ipairs({session, order, messages, turns, queue}) do redis.call('EXPIRE', key, ttl) end
redis.call('EXPIRE', turn, math.max(tonumber(ttl), tonumber(ARGV[6])))
return {'BEGUN', state, '1', message_id, position + 1, count, mode == 'append' and #off or 0}
