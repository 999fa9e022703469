-- hold: turns that still run, or wait in a queue, keep their places and reserved tokens.
-- A place that has lapsed meanwhile is taken again; a turn that is settled stays settled.
--
-- KEYS  1 running  2 reserved
-- ARGV  1 lease ms  2 ttl s  3... turn ids
-- Returns the number of places held
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local count = 0
for i = 3, #ARGV do
  local held = redis.call('HGET', KEYS[2], ARGV[i])
  if held and held ~= '-' then
    redis.call('ZADD', KEYS[1], deadline, ARGV[i])
    count = count + 1
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return count
