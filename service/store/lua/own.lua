-- own: announce a turn before it begins (not on Cluster, where the keys are apart).
--
-- KEYS: index (of deadlines), owned (the worker's turns)
-- ARGV: after_ms int, reference str (the turn), ttl int (s of the worker's set)
-- Returns 1
local time = redis.call('TIME')
redis.call('ZADD', index, time[1] * 1000 + math.floor(time[2] / 1000) + after_ms, reference)
redis.call('SADD', owned, reference)
if redis.call('TTL', owned) < ttl / 2 then redis.call('EXPIRE', owned, ttl) end
return 1
