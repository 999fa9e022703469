-- next_life: the last id before a new life of a log (a function for other scripts, not called alone).
-- The store has lost what readers may have seen, so the ids that follow lie beyond all that were ever
-- given out: 1,000,000 per tenth of a second since the turn began. No turn has so many events, and a
-- life that was itself lost began earlier.
--
-- Takes: last (id that the log still has), created (ms at which the turn was), now_ms (by the caller's clock:
--        the later of both clocks counts, that of a promoted replica may be behind)
-- Returns an id; the first of the new life is the one after it
local lives = math.floor(tonumber(last) / 1000000) + 1
local time = redis.call('TIME')
local now = math.max(time[1] * 1000 + math.floor(time[2] / 1000), now_ms)
local tenths = math.floor((now - tonumber(created)) / 100)
return math.max(lives, tenths) * 1000000 - 1
