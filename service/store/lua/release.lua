-- release: the owner leaves a running turn for takeover; its lease lapses now, also where it was given in an
-- earlier history of the store (claim.lua).
--
-- KEYS  1 turn
-- ARGV  1 epoch  2 claim
-- Returns 1 released | 0 not ours
local function history()
-- include history
end
local held = redis.call('HMGET', KEYS[1], 'epoch', 'state', 'claim')
if held[1] ~= ARGV[1] or (held[3] or '') ~= ARGV[2] or held[2] ~= 'running' then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'lease', time[1] * 1000 + math.floor(time[2] / 1000), 'graced', history())
return 1
