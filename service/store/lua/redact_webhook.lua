-- redact_webhook: another body for what still waits to be told.
--
-- KEYS: said (as of queue_webhook)
-- ARGV: id str, body str
-- Returns 1 changed | 0 it waits no more
local size = redis.call('HSTRLEN', said, id)
if size == 0 then return 0 end
redis.call('HSET', said, id, body)
redis.call('HINCRBY', said, '#', #body - size)
return 1
