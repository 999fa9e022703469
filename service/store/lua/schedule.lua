-- schedule: put turns on the index of lease deadlines, by Redis's clock.
--
-- KEYS: index
-- ARGV: after_ms int, references str...
-- Returns the number of references
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + after_ms
for _, reference in ipairs(references) do redis.call('ZADD', index, due, reference) end
return #references
