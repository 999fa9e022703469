-- due: turns whose lease deadline has passed; each is handed out once per `hold`. So are those whose deadline
-- is further ahead than any is put: a server with another clock has put it, before this one was promoted.
--
-- KEYS  1 index
-- ARGV  1 limit  2 hold ms (a sweeper that dies leaves them to the next one after this)
--       3 ms that a deadline lies ahead at most
-- Returns the references
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, reference in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now + ARGV[3], '+inf', 'LIMIT', 0, ARGV[1])) do
  due[#due + 1] = reference
end
for _, reference in ipairs(due) do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), reference) end
return due
