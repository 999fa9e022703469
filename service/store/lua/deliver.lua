-- deliver: note that a reader was sent the end of a turn.
--
-- KEYS  1 turn
-- ARGV  -
-- Returns 1 noted | 0 no such turn
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'delivered', '1')
return 1
