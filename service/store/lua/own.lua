-- own: announce a turn before it begins (not on Cluster, where the keys are apart).
--
-- KEYS  1 index of deadlines  2 set of the worker's turns
-- ARGV  1 ms from now  2 turn reference  3 ttl s of the set
-- Returns 1
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1]), ARGV[2])
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
