-- withdraw: a turn is no Response (OpenAI's) any more, and what its request said of it is forgotten.
--
-- KEYS: turn
-- ARGV: none
-- Returns 1 done | 0 no such turn
if redis.call('EXISTS', turn) == 0 then return 0 end
redis.call('HSET', turn, 'response', '{"store":false}')
return 1
