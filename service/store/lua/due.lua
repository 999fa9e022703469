-- due: turns whose lease deadline has passed; each is handed out once per `hold_ms`. So are those whose deadline
-- is further ahead than any is put: a server with another clock has put it, before this one was promoted.
--
-- KEYS: index
-- ARGV: limit int, hold_ms int (a sweeper that dies leaves them to the next one after this),
--       ahead_ms int (that a deadline lies ahead at most)
-- Returns the references
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, limit)
for _, reference in ipairs(redis.call('ZRANGEBYSCORE', index, now + ahead_ms, '+inf', 'LIMIT', 0, limit)) do
  due[#due + 1] = reference
end
for _, reference in ipairs(due) do redis.call('ZADD', index, now + hold_ms, reference) end
return due
