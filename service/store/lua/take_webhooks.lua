-- take_webhooks: what may be sent now, for one worker; others are given it when `hold_ms` is over, so that
-- what a worker took that died is sent all the same.
--
-- KEYS: due, said, index... (as of queue_webhook; one with nothing that waits is taken off it)
-- ARGV: limit int, hold_ms int, of str
-- Returns {id, body, how often it was sent with this time, ...}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, limit)) do
  local body = redis.call('HGET', said, id)
  if body then
    redis.call('ZADD', due, now + hold_ms, id)
    taken[#taken + 1], taken[#taken + 2] = id, body
    taken[#taken + 1] = redis.call('HINCRBY', said, '#' .. id, 1)
  else
    redis.call('ZREM', due, id)
  end
end
if redis.call('ZCARD', due) == 0 then
  for _, name in ipairs(index) do redis.call('ZREM', name, of) end
end
return taken
