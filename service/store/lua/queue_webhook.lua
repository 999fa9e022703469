-- queue_webhook: what is to be told to a receiver, once per id. Bounded: what does not fit is not queued.
--
-- KEYS: due (ids by the ms from which on they may be sent), said (bodies by id, `#<id>` how often they were
--       sent, `#` the bytes of all bodies),
--       index... (none, or the API keys with something that waits; sorted set, in no order)
-- ARGV: id str, body str, most int (that wait), most_bytes int (of their bodies), ttl int (s of the keys), of str (the API key)
-- Returns 1 queued | 0 it waits already | -1 full
for _, name in ipairs(index) do
  redis.call('ZADD', name, 0, of)
  redis.call('EXPIRE', name, ttl)
end
if redis.call('HEXISTS', said, id) == 1 then return 0 end
if redis.call('ZCARD', due) >= most then return -1 end
if tonumber(redis.call('HGET', said, '#') or 0) + #body > most_bytes then return -1 end
local time = redis.call('TIME')
redis.call('ZADD', due, time[1] * 1000 + math.floor(time[2] / 1000), id)
redis.call('HSET', said, id, body)
redis.call('HINCRBY', said, '#', #body)
redis.call('EXPIRE', due, ttl)
redis.call('EXPIRE', said, ttl)
return 1
