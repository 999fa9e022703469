-- renew: the lease of a turn that writes nothing at the moment; says what the runner has to know.
--
-- KEYS  1 turn  2 session
-- ARGV  1 epoch  2 claim  3 lease ms  4 has a reader 0|1  5 orphan ms
-- Returns 1 OK | 2 STOP | 0 FENCED | -1 GONE | 3 ORPHAN (an unnamed session's answer without a reader)
local held = redis.call('HMGET', KEYS[1], 'epoch', 'state', 'stop', 'reader_at', 'claim')
if not held[1] then return -1 end
if held[1] ~= ARGV[1] or (held[5] or '') ~= ARGV[2] or held[2] ~= 'running' then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'lease', now + tonumber(ARGV[3]))
if held[3] then return 2 end
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], 'reader_at', now)
elseif now - tonumber(held[4]) > tonumber(ARGV[5]) and redis.call('HGET', KEYS[2], 'named') == '0' then
  return 3
end
return 1
