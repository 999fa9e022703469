-- end_webhook: what was sent is done with, or waits for its next time.
--
-- KEYS: due, said
-- ARGV: id str, again_ms int (from now; -1 = it is done with)
-- Returns 1
if again_ms < 0 then
  redis.call('ZREM', due, id)
  local size = redis.call('HSTRLEN', said, id)
  if redis.call('HDEL', said, id, '#' .. id) > 0 and redis.call('HINCRBY', said, '#', -size) <= 0 then
    redis.call('HDEL', said, '#')
  end
  return 1
end
local time = redis.call('TIME')
redis.call('ZADD', due, 'XX', time[1] * 1000 + math.floor(time[2] / 1000) + again_ms, id)
return 1
