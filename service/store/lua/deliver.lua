-- deliver: note that a reader was sent the end of a turn.
--
-- KEYS: turn
-- ARGV: none
-- Returns 1 noted | 0 no such turn
if redis.call('EXISTS', turn) == 0 then return 0 end
redis.call('HSET', turn, 'delivered', '1')
return 1
