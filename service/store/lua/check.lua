-- check: each kind of write that turns need, tried in earnest; nothing is left behind.
-- The first one needs memory: a full Redis refuses only what comes before any other write.
--
-- KEYS: key (of its own)
-- ARGV: none
-- Returns 1
redis.call('SET', key, '1', 'PX', 1000)
redis.call('INCR', key)
redis.call('DEL', key)
redis.call('HSET', key, 'f', '1')
redis.call('EXPIRE', key, 1)
redis.call('DEL', key)
redis.call('ZADD', key, 0, '1')
redis.call('DEL', key)
redis.call('SADD', key, '1')
redis.call('DEL', key)
redis.call('RPUSH', key, '1')
redis.call('DEL', key)
redis.call('XADD', key, '1-0', 'e', '')
redis.call('DEL', key)
redis.call('PUBLISH', key, '')
return 1
