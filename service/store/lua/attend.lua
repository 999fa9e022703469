-- attend: note that a running turn has a reader now.
--
-- KEYS  1 turn
-- ARGV  -
-- Returns 1 noted | 0 not running
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'reader_at', time[1] * 1000 + math.floor(time[2] / 1000))
return 1
