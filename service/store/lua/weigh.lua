-- weigh: how much a principal keeps.
--
-- KEYS  1 sizes  2 ends
-- ARGV  1 ttl s of the keys
-- Returns {sessions, bytes}
local function open(...)
-- include account
end
local time = redis.call('TIME')
local account = open(KEYS[1], KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
account.prune()
return {account.sums()}
