-- withdraw: a turn is no Response (OpenAI's) any more, and what its request said of it is forgotten.
--
-- KEYS  1 turn
-- ARGV  -
-- Returns 1 done | 0 no such turn
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'response', '{"store":false}')
return 1
