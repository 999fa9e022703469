-- seal: the last events with the terminal one, the assistant's message, the usage and the next
-- queued turn's right to run, atomically and once.
--
-- KEYS  1 turn  2 log  3 session  4 order  5 messages  6 queue  7 idempotency entry
-- ARGV  1 epoch  2 claim  3 id of the first event, 0 = the first of a new life of the log  4 state
--       5 answer id  6 answer JSON ('' = no text)  7 session ttl s  8 ephemeral ttl s  9 log ttl s
--       10 frees the idempotency key 0|1  11 now ms
--       12 number of turn fields, then field, value, ..., then the payloads (the last is terminal)
-- Returns {SEALED, next turn id or '', id of the terminal event, stored} | {FENCED} | {GONE} |
--         {LOST} (the log has not all that comes before the first event: nothing was written)
-- A repeat by the sealer answers SEALED again. `stored`, also a field of the turn, is what its principal's
-- account is told: `<bytes of the session> <s it lives> <bytes of the log> <hour since 1970 in which that
-- ends> <updated>`; '' where the session is gone.
local turn, log, session, order, messages, queue, idem = unpack(KEYS)
local function next_life(ARGV)
-- include next_life
end
local held = redis.call('HMGET', turn, 'epoch', 'state', 'last', 'pos', 'id', 'created', 'claim', 'stored')
if not held[1] then return {'GONE'} end
if held[1] ~= ARGV[1] or (held[7] or '') ~= ARGV[2] then return {'FENCED'} end
local n, last = tonumber(ARGV[3]), tonumber(held[3])
if held[2] ~= 'running' and held[2] ~= 'queued' then
  return held[2] == ARGV[4] and {'SEALED', '', last, held[8] or ''} or {'FENCED'}
end

local fields = {'state', ARGV[4], 'lease', '0'}
if n == 0 then
  if (last + 1) % 1000000 ~= 0 then  -- as in claim
    fields[#fields + 1] = 'kept'
    fields[#fields + 1] = last
  end
  last = next_life({last, held[6], ARGV[11]})
  n = last + 1
elseif n > last + 1 or (last >= 1 and redis.call('EXISTS', log) == 0) then
  return {'LOST'}
end
local at = 13 + 2 * tonumber(ARGV[12])
for i = 13, at - 1 do fields[#fields + 1] = ARGV[i] end
for i = at, #ARGV do
  if n > last then
    redis.call('XADD', log, string.format('%.0f-0', n), 'e', ARGV[i])
    last = n
  end
  n = n + 1
end
fields[#fields + 1] = 'last'
fields[#fields + 1] = last
redis.call('HSET', turn, unpack(fields))
-- Only a turn that still runs needs what it was asked with; whole prompts and tools are in there.
redis.call('HDEL', turn, 'params', 'started')
redis.call('EXPIRE', log, ARGV[9])
-- A stream's newest node keeps 4 KiB for what is to come; in a copy it has what it needs.
if redis.call('COPY', log, log .. ':copy', 'REPLACE') == 1 then redis.call('RENAME', log .. ':copy', log) end
if ARGV[10] == '1' then redis.call('DEL', idem) end

local function usage(key)
  local bytes = redis.pcall('MEMORY', 'USAGE', key)
  return type(bytes) == 'number' and bytes or 1024  -- where Redis does not say (no right to, another kind)
end
local following, stored = '', ''
if redis.call('EXISTS', session) == 1 then
  if redis.call('HEXISTS', session, 'bytes') == 0 then  -- begun by a worker that did not count, as in begin
    local measured = redis.pcall('MEMORY', 'USAGE', messages, 'SAMPLES', 0)
    redis.call('HSET', session, 'bytes', type(measured) == 'number' and measured or 0)
  end
  -- Is the question still in the history? An edit may have dropped it, a delete has.
  if ARGV[6] ~= '' and redis.call('ZCOUNT', order, held[4] - 1, held[4] - 1) == 1 then
    redis.call('ZADD', order, held[4], ARGV[5])
    redis.call('HSET', messages, ARGV[5], ARGV[6])
    redis.call('HINCRBY', session, 'bytes', #ARGV[6] + 2 * #ARGV[5] + 160)  -- as in begin
  end
  if redis.call('HGET', session, 'active') == held[5] then
    following = redis.call('LPOP', queue) or ''
    if following == '' then
      redis.call('HDEL', session, 'active')
    else
      redis.call('HSET', session, 'active', following)
    end
  else
    redis.call('LREM', queue, 0, held[5])
  end
  redis.call('HSET', session, 'updated', ARGV[11])
  local named = redis.call('HGET', session, 'named') == '1'
  local ttl = named and ARGV[7] or ARGV[8]
  for _, key in ipairs({session, order, messages, queue}) do redis.call('EXPIRE', key, ttl) end
  redis.call('EXPIRE', turn, math.max(tonumber(ttl), tonumber(ARGV[9])))

  -- The turn ends with a session that has a name, else with its log. 300: the idempotency key, in its day.
  local kept, logs = usage(turn), usage(log) + 300
  if named then redis.call('HINCRBY', session, 'bytes', kept) else logs = logs + kept end
  local own = 1000 + redis.call('HSTRLEN', session, 'system_prompt') + redis.call('HSTRLEN', session, 'title')
  local bytes = own + (redis.call('HGET', session, 'bytes') or 0)
  local hour = math.floor((redis.call('TIME')[1] + ARGV[9]) / 3600)
  stored = string.format('%.0f %s %.0f %.0f %s', bytes, ttl, logs, hour, ARGV[11])
  redis.call('HSET', turn, 'stored', stored)
end
redis.call('PUBLISH', log, last)
return {'SEALED', following, last, stored}
