-- probe: would the store write? These change nothing, as there is no such key, so nothing of it gets into
-- the append-only file or to replicas; but Redis asks of them all that it asks of a write.
--
-- KEYS  1 a key that does not exist
-- ARGV  -
-- Returns 1
redis.call('ZADD', KEYS[1], 'XX', 0, '1')
redis.call('SETRANGE', KEYS[1], 0, '')
redis.call('RPUSHX', KEYS[1], '1')
redis.call('XADD', KEYS[1], 'NOMKSTREAM', '1-0', 'e', '')
return 1
