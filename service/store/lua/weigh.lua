-- weigh: how much a principal keeps.
--
-- KEYS: sizes, ends
-- ARGV: ttl int (s of the keys)
-- Returns {sessions, bytes}
-- include account
local time = redis.call('TIME')
local kept = account(sizes, ends, time[1] * 1000 + math.floor(time[2] / 1000), ttl)
kept.prune()
return {kept.sums()}
