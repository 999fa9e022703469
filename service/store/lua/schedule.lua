-- schedule: put turns on the index of lease deadlines, by Redis's clock.
--
-- KEYS  1 index
-- ARGV  1 ms from now  2... turn references
-- Returns the number of references
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], due, ARGV[i]) end
return #ARGV - 1
