-- begin: user message + turn + `turn.started` + lease, atomically; or why not.
-- Repeating it with the same turn id is harmless (it answers BEGUN again).
--
-- KEYS: session, order, messages, turns, queue, turn, log, idem (the idempotency entry)
-- ARGV: turn_id str, owner str, lease_ms int, session_ttl int (s), ephemeral_ttl int (s), log_ttl int (s),
--       idem_ttl int (s), fingerprint str ('' = no key), mode str (append | edit |
--       regenerate | continue), message_id str (of the user; to continue, of the session's newest answer),
--       last_turn str (to continue: whose answer that was when the caller read it),
--       message str (its JSON, '' for a regenerate that keeps it),
--       on_busy str (reject | queue | check: nothing is begun), most_queued int, named flag, must_exist flag,
--       most_versions int (of what is cut off, that the session keeps),
--       started str (payload), now_ms int (of the worker, for `created` and `updated`),
--       till int (until when it may begin, ms, 0 = always: a Redis that stood still begins nothing afterwards),
--       seeds_required flag (else a session that has messages does without them),
--       fields str... (field, value, ... of the turn),
--       defaults str... (field, value, ... of the session, set where it is new; each that is missing where it
--       was made beforehand and nothing has been said in it),
--       seeds str... (id, role, JSON, ...),
--       before str... (the ids that stand before the message at its client, newest first, '' = the beginning:
--       an append cuts off what the session has behind the first of them that it knows)
-- Returns {BEGUN, state, epoch, user message id, answer position, turns of its session, messages that an
--         append has cut off, whether images may have lost the last that named them (neither where it is
--         repeated)} | {KNOWN, turn id} |
--         {MISMATCH, turn id} | {BUSY, turn id} | {HAS_HISTORY} | {NO_SESSION} | {NO_MESSAGE} |
--         {MESSAGE_EXISTS} | {FREE} (check) | {LATE}
-- include replication_id
-- include version
local begun = redis.call('HMGET', turn, 'state', 'epoch', 'user', 'pos')
if begun[1] then
  return {'BEGUN', begun[1], begun[2], begun[3], begun[4], redis.call('HGET', session, 'turns') or '0'}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if till > 0 and now > till then return {'LATE'} end

if fingerprint ~= '' then
  local known = redis.call('HMGET', idem, 'turn', 'fingerprint')
  if known[1] then
    return {known[2] == fingerprint and 'KNOWN' or 'MISMATCH', known[1]}
  end
end

-- Every session has `created`.
local was = redis.call('HMGET', session, 'created', 'named', 'active', 'bytes', 'seq', 'turns', 'freed')
local exists = was[1]
-- Without `must exist`, a message that is not there is appended (its client has it, we do not).
if mode ~= 'append' and message ~= '' and not must_exist
  and not redis.call('ZSCORE', order, message_id) then
  mode = 'append'
end
if must_exist and not exists then return {'NO_SESSION'} end

-- A send that failed with nothing shown is repeated under its key: its question is there already, the newest,
-- and keeps its id. (Where none was named: sessions older than the field `asked_id` go without it.)
local again = false
local newest = redis.call('ZREVRANGE', order, 0, 0, 'WITHSCORES')
if not named and fingerprint ~= '' then
  local asked = redis.call('HMGET', session, 'asked', 'asked_id')
  again = asked[1] == fingerprint and newest[1] and newest[2] % 2 == 0
    and (not asked[2] or asked[2] == newest[1])
end
if again then message_id = newest[1] end
if was[7] and fingerprint ~= '' and mode == 'append' and not (again or was[3]) and newest[1] then
  -- `freed` names the key, the fingerprint and the question of the send that failed last (seal). A partial
  -- answer to it, which nobody was shown, goes, as at a regenerate.
  local answered = newest[2] % 2 == 1
  local asked = answered and redis.call('ZRANGEBYSCORE', order, newest[2] - 1, newest[2] - 1)[1] or newest[1]
  again = was[7] == idem .. ' ' .. fingerprint .. ' ' .. asked
  if again then
    message_id = asked
    if answered then mode = 'regenerate' end
  end
end
if #seeds > 0 and redis.call('EXISTS', order) == 1 then
  if seeds_required and not again then return {'HAS_HISTORY'} end
  seeds = {}
end

-- Behind which place do the messages go? A question goes with its answer, of which a client may know nothing.
local function behind(place)
  if place % 2 == 1 then return place end
  local after = redis.call('ZRANGEBYSCORE', order, '(' .. place, '+inf', 'WITHSCORES', 'LIMIT', 0, 8)
  for i = 2, #after, 2 do
    if after[i] % 2 == 0 then return after[i] - 1 end
  end
end

local position, cut, question
if mode == 'continue' then
  local place = tonumber(redis.call('ZSCORE', order, message_id) or '0')
  question = redis.call('ZRANGEBYSCORE', order, place - 1, place - 1)[1]
  -- Another turn may have gone on with it since: what it has said is not in what the caller would write.
  local body = redis.call('HGET', messages, message_id) or ''
  local changed = (string.match(body, '"turn_id":"([^"]*)"') or '') ~= last_turn
  if place % 2 == 0 or not question or changed or redis.call('ZCOUNT', order, '(' .. place, '+inf') > 0 then
    return {'NO_MESSAGE'}
  end
  position, cut = place - 1, place
elseif mode == 'append' then
  -- The newest message without an answer is sent again after a failure: it takes its old place.
  position = newest[1] and tonumber(redis.call('ZSCORE', order, message_id) or nil)
  if position and (position % 2 == 1 or newest[1] ~= message_id) then return {'MESSAGE_EXISTS'} end
  for i = 1, position and 0 or #before do
    local place = before[i] == '' and 0 or tonumber(redis.call('ZSCORE', order, before[i]) or nil)
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
local active = was[3]
if active then
  if on_busy ~= 'queue' or cut or redis.call('LLEN', queue) >= most_queued then
    return {'BUSY', active}
  end
  if position then return {'MESSAGE_EXISTS'} end
  state = 'queued'
end
-- Would the store write? No message has this id, so nothing changes; but Redis asks of it what it asks of
-- a write that needs memory. Of what follows it asks nothing more: begun is then begun whole.
redis.call('ZADD', order, 'XX', 0, '\0')
if on_busy == 'check' then return {'FREE'} end

-- What the session's messages hold is counted in its field `bytes`: their JSON, their ids twice, 160 for
-- what Redis keeps of each beside. A session of before the field is measured once.
local bytes, seq, count = tonumber(was[4] or 0), tonumber(was[5] or 0), tonumber(was[6] or 0)
local function weight(message_id)
  local size = redis.call('HSTRLEN', messages, message_id)
  return size > 0 and size + 2 * #message_id + 160 or 0
end
if exists and not was[4] and redis.call('EXISTS', messages) == 1 then
  local measured = redis.pcall('MEMORY', 'USAGE', messages, 'SAMPLES', 0)
  bytes = type(measured) == 'number' and measured or 0
end

if was[7] then redis.call('HDEL', session, 'freed') end  -- what has begun since, another may go on from
local gone = false  -- something that named images may be in no version
local off = {}
if cut then
  local first = mode == 'edit' and cut or cut + 1
  local versions = version(session, order, messages)
  bytes = bytes + versions.keep(string.format('%.0f', first), most_versions, now_ms)
  gone = versions.gone
  off = redis.call('ZRANGEBYSCORE', order, '(' .. cut, '+inf')
  redis.call('ZREMRANGEBYSCORE', order, '(' .. cut, '+inf')
  for i = 1, #off, 1000 do
    local last = math.min(i + 999, #off)
    for j = i, last do bytes = bytes - weight(off[j]) end
    redis.call('HDEL', messages, unpack(off, i, last))
  end
end

local stays = named or was[2] == '1'
local changes = {'named', stays and '1' or '0', 'updated', now_ms}  -- of the session
if not exists then
  changes[5], changes[6] = 'created', now_ms
  for i = 1, #defaults do changes[6 + i] = defaults[i] end
  -- Where only the session's hash was lost (evicted), the numbering goes on behind what is there still.
  local last = (cut and redis.call('ZREVRANGE', order, 0, 0, 'WITHSCORES') or newest)[2]
  if last then seq, count = math.floor(last / 2), redis.call('LLEN', turns) end
elseif redis.call('EXISTS', order, turns) == 0 then
  for i = 1, #defaults, 2 do redis.call('HSETNX', session, defaults[i], defaults[i + 1]) end
end
if not named and fingerprint ~= '' then
  redis.call('HSET', session, 'asked', fingerprint, 'asked_id', message_id)
end

-- Some hundred messages a command: three commands for each had been 15 us, 30 ms for the longest history.
if #seeds > 0 then
  local weights = {}  -- of each id once: there are no messages yet, but a page may send one twice
  for first = 1, #seeds, 1500 do
    local places, bodies = {}, {}
    for i = first, math.min(first + 1499, #seeds), 3 do
      local seed_id, role, body = seeds[i], seeds[i + 1], seeds[i + 2]
      seq = seq + 1
      places[#places + 1], places[#places + 2] = role == 'user' and 2 * seq or 2 * seq + 1, seed_id
      bodies[#bodies + 1], bodies[#bodies + 2] = seed_id, body
      weights[seed_id] = #body + 2 * #seed_id + 160
    end
    redis.call('ZADD', order, unpack(places))
    redis.call('HSET', messages, unpack(bodies))
  end
  for _, size in pairs(weights) do bytes = bytes + size end
end
if not position then
  seq = seq + 1
  position = 2 * seq
  redis.call('ZADD', order, position, message_id)
end
if message ~= '' then
  local before = weight(message_id)
  if before > 0 and mode ~= 'edit' then
    local body = redis.call('HGET', messages, message_id)
    gone = gone or string.find(body, '"ref":"', 1, true) ~= nil
  end
  bytes = bytes - before + #message + 2 * #message_id + 160
  redis.call('HSET', messages, message_id, message)
end

redis.call('HSET', turn, 'v', '1', 'id', turn_id, 'state', state, 'epoch', '1', 'owner', owner, 'attempt', '0',
  'user', question or message_id, 'pos', position + 1, 'reader_at', now, 'created', now_ms, 'started', started,
  'history', replication_id(),
  'lease', state == 'running' and now + lease_ms or 0, 'last', state == 'running' and 1 or 0,
  unpack(fields))
redis.call('RPUSH', turns, turn_id)
if state == 'running' then
  redis.call('XADD', log, '1-0', 'e', started)
  redis.call('EXPIRE', log, log_ttl)
  active = turn_id
else
  redis.call('RPUSH', queue, turn_id)
  redis.call('EXPIRE', queue, stays and session_ttl or ephemeral_ttl)
end
count = count + 1
redis.call('HSET', session, 'active', active, 'bytes', bytes, 'seq', seq, 'turns', count, unpack(changes))
if fingerprint ~= '' then
  redis.call('HSET', idem, 'turn', turn_id, 'fingerprint', fingerprint)
  redis.call('EXPIRE', idem, idem_ttl)
end
local ttl = stays and session_ttl or ephemeral_ttl
for _, key in ipairs({session, order, messages, turns}) do redis.call('EXPIRE', key, ttl) end
redis.call('EXPIRE', turn, math.max(ttl, log_ttl))
redis.call('PUBLISH', session, 1)  -- for whoever has it open
return {'BEGUN', state, '1', question or message_id, position + 1, count, mode == 'append' and #off or 0,
  gone and redis.call('HEXISTS', session, 'images') or 0}
