-- replication_id: the id of the store's own history (Redis: master_replid), '' where the server does not tell it
-- (then losses are found by gaps only). It changes with each restart and each failover, the only moments at
-- which writes that were acknowledged can be lost. A function for other scripts, not called alone.
--
-- Takes: nothing
local info = redis.pcall('INFO', 'replication')
return type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
