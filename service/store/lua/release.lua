-- release: the owner leaves a running turn for takeover; its lease lapses now, also where it was given in an
-- earlier history of the store (claim.lua).
--
-- KEYS: turn
-- ARGV: epoch int, claim str
-- Returns 1 released | 0 not ours
-- include replication_id
local held = redis.call('HMGET', turn, 'epoch', 'state', 'claim')
if tonumber(held[1] or nil) ~= epoch or (held[3] or '') ~= claim or held[2] ~= 'running' then return 0 end
local time = redis.call('TIME')
redis.call('HSET', turn, 'lease', time[1] * 1000 + math.floor(time[2] / 1000), 'graced', replication_id())
return 1
