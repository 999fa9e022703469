-- probe: would the store write? These change nothing, as there is no such key, so nothing of it gets into
-- the append-only file or to replicas; but Redis asks of them all that it asks of a write.
--
-- KEYS: key (that does not exist)
-- ARGV: none
-- Returns 1
redis.call('ZADD', key, 'XX', 0, '1')
redis.call('SETRANGE', key, 0, '')
redis.call('RPUSHX', key, '1')
redis.call('XADD', key, 'NOMKSTREAM', '1-0', 'e', '')
return 1
