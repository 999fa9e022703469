-- seal: the last events with the terminal one, the assistant's message, the usage and the next
-- queued turn's right to run, atomically and once.
--
-- KEYS  1 turn  2 log  3 session  4 order  5 messages  6 queue  7 idempotency entry
-- ARGV  1 epoch  2 id of the first event  3 state  4 answer id  5 answer JSON ('' = no text)
--       6 session ttl s  7 ephemeral ttl s  8 log ttl s  9 frees the idempotency key 0|1  10 now ms
--       11 number of turn fields, then field, value, ..., then the payloads (the last is terminal)
-- Returns {SEALED, next turn id or ''} | {FENCED} | {GONE}
-- A repeat by the sealer answers SEALED again.
local turn, log, session, order, messages, queue, idem = unpack(KEYS)
local held = redis.call('HMGET', turn, 'epoch', 'state', 'last', 'pos', 'id', 'named')
if not held[1] then return {'GONE'} end
if held[1] ~= ARGV[1] then return {'FENCED'} end
if held[2] ~= 'running' and held[2] ~= 'queued' then
  return held[2] == ARGV[3] and {'SEALED', ''} or {'FENCED'}
end

local fields = {'state', ARGV[3], 'lease', '0'}
local at = 12
for i = at, at + 2 * tonumber(ARGV[11]) - 1 do fields[#fields + 1] = ARGV[i] end
at = at + #fields - 4
local n, last = tonumber(ARGV[2]), tonumber(held[3])
for i = at, #ARGV do
  if n > last then
    -- A log that Redis lost is begun anew at this id, so that readers find how it ended.
    redis.call('XADD', log, n .. '-0', 'e', ARGV[i])
    last = n
  end
  n = n + 1
end
fields[#fields + 1] = 'last'
fields[#fields + 1] = last
redis.call('HSET', turn, unpack(fields))
redis.call('EXPIRE', log, ARGV[8])
-- A stream's newest node keeps 4 KiB for what is to come; in a copy it has what it needs.
if redis.call('COPY', log, log .. ':copy', 'REPLACE') == 1 then redis.call('RENAME', log .. ':copy', log) end
if ARGV[9] == '1' then redis.call('DEL', idem) end

local following = ''
if redis.call('EXISTS', session) == 1 then
  -- Is the question still in the history? An edit may have dropped it, a delete has.
  if ARGV[5] ~= '' and redis.call('ZCOUNT', order, held[4] - 1, held[4] - 1) == 1 then
    redis.call('ZADD', order, held[4], ARGV[4])
    redis.call('HSET', messages, ARGV[4], ARGV[5])
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
  redis.call('HSET', session, 'updated', ARGV[10])
  local ttl = redis.call('HGET', session, 'named') == '1' and ARGV[6] or ARGV[7]
  for _, key in ipairs({session, order, messages, queue}) do redis.call('EXPIRE', key, ttl) end
  redis.call('EXPIRE', turn, math.max(tonumber(ttl), tonumber(ARGV[8])))
end
redis.call('PUBLISH', log, last)
return {'SEALED', following}
