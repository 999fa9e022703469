-- leave: what enter has put up for a turn is taken down: it is settled, and then nobody looks at it again.
-- Only where all keys are on one server.
--
-- KEYS: index (of deadlines), owned (the worker's turns)
-- ARGV: reference str (the turn), settling call (settle)
-- Returns what settle returns
-- include settle
local booked = settle(settling.KEYS, settling.ARGV)
redis.call('ZREM', index, reference)
redis.call('SREM', owned, reference)
return booked
