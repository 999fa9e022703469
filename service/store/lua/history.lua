-- history: the id of the store's own history (Redis: master_replid). It changes with each restart and
-- each failover, the only moments at which writes that were acknowledged can be lost.
--
-- KEYS  1 any key of the server that is meant
-- ARGV  -
-- Returns the id, '' where the server does not tell it (then losses are found by gaps only)
local info = redis.pcall('INFO', 'replication')
return type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
