-- finish: a turn is sealed, settled, and nobody looks at it again: seal and leave, in one round trip.
-- Only where all keys are on one server.
--
-- KEYS: index (of deadlines), owned (the worker's turns)
-- ARGV: reference str (the turn), sealing call (seal), settling call (settle; `stored` is what the seal says)
-- Returns {what seal returns, what settle returns}, the latter 0 where it was not sealed
-- include seal
-- include settle
local sealed = seal(sealing.KEYS, sealing.ARGV)
if sealed[1] ~= 'SEALED' then return {sealed, 0} end
settling.ARGV[1] = sealed[4]
local booked = settle(settling.KEYS, settling.ARGV)
redis.call('ZREM', index, reference)
redis.call('SREM', owned, reference)
return {sealed, booked}
