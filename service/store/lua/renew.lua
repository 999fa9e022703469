-- renew: the lease of a turn that writes nothing at the moment; says what the runner has to know.
--
-- KEYS: turn, session
-- ARGV: epoch int, claim str, lease_ms int, has_reader flag, orphan_ms int
-- Returns 1 OK | 2 STOP | 0 FENCED | -1 GONE | 3 ORPHAN (an unnamed session's answer without a reader)
local held = redis.call('HMGET', turn, 'epoch', 'state', 'stop', 'reader_at', 'claim')
if not held[1] then return -1 end
if tonumber(held[1]) ~= epoch or (held[5] or '') ~= claim or held[2] ~= 'running' then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', turn, 'lease', now + lease_ms)
if held[3] then return 2 end
if has_reader then
  redis.call('HSET', turn, 'reader_at', now)
elseif now - tonumber(held[4]) > orphan_ms and redis.call('HGET', session, 'named') == '0' then
  return 3
end
return 1
