-- expire_lease: as release.lua does for an owner that lives, where the owner is known to be dead.
--
-- KEYS: turn
-- ARGV: owner str
-- Returns 1 expired | 0 not this owner's, or not running
-- include replication_id
local held = redis.call('HMGET', turn, 'owner', 'state')
if held[1] ~= owner or held[2] ~= 'running' then return 0 end
local time = redis.call('TIME')
redis.call('HSET', turn, 'lease', time[1] * 1000 + math.floor(time[2] / 1000), 'graced', replication_id())
return 1
