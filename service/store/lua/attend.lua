-- attend: note that a running turn has a reader now, who is not, or not only, the one that it began with.
--
-- KEYS: turn
-- ARGV: none
-- Returns 1 noted | 2 noted, and its lease has lapsed | 0 not running
local held = redis.call('HMGET', turn, 'state', 'lease')
if held[1] ~= 'running' then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', turn, 'reader_at', now, 'attended', '1')
return tonumber(held[2]) <= now and 2 or 1
