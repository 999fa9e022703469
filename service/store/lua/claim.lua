-- claim: become the owner of a turn whose lease has lapsed, or whose time in the queue has come.
-- The epoch rises, so that the owner before can write nothing any more.
--
-- KEYS  1 turn  2 log  3 session
-- ARGV  1 owner  2 lease ms  3 force 0|1 (stop takes a turn from a living owner)  4 log ttl s
-- Returns {CLAIMED, promoted 0|1, ms since the lease lapsed, owner before, field, value, ...} |
--         {LEASED, ms left} | {SEALED, field, value, ...} | {WAITING} (queued behind a running turn) | {GONE}
local turn, log, session = unpack(KEYS)
local held = redis.call('HMGET', turn, 'state', 'lease', 'id', 'started', 'owner')
if not held[1] then return {'GONE'} end
if held[1] ~= 'running' and held[1] ~= 'queued' then
  return {'SEALED', unpack(redis.call('HGETALL', turn))}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local promoted = '0'
if held[1] == 'queued' and ARGV[3] ~= '1' then
  if redis.call('HGET', session, 'active') ~= held[3] then return {'WAITING'} end
  redis.call('XADD', log, '1-0', 'e', held[4])
  redis.call('EXPIRE', log, ARGV[4])
  redis.call('HSET', turn, 'state', 'running', 'last', '1', 'reader_at', now)
  redis.call('PUBLISH', log, 1)
  promoted = '1'
elseif tonumber(held[2]) > now and ARGV[3] ~= '1' then
  return {'LEASED', tonumber(held[2]) - now}
end
redis.call('HINCRBY', turn, 'epoch', 1)
redis.call('HSET', turn, 'owner', ARGV[1], 'lease', now + tonumber(ARGV[2]))
local lapsed = math.max(0, now - tonumber(held[2]))
return {'CLAIMED', promoted, lapsed, held[5], unpack(redis.call('HGETALL', turn))}
