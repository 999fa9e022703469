-- hold: turns that still run, or wait in a queue, keep their places and reserved tokens.
-- A place that has lapsed meanwhile is taken again; a turn that is settled stays settled.
--
-- KEYS  1 running  2 reserved  3 held
-- ARGV  1 lease ms  2 ttl s  3... turn ids
-- Returns the number of places held
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local count, again, more = 0, 0, 0
for i = 3, #ARGV do
  local held = redis.call('HGET', KEYS[2], ARGV[i])
  if held and held ~= '-' then
    if redis.call('ZADD', KEYS[1], deadline, ARGV[i]) == 1 then
      again, more = again + 1, more + held
    end
    count = count + 1
  end
end
local turns, tokens = string.match(redis.call('GET', KEYS[3]) or '', '^(%d+) (%d+)$')
if turns then
  redis.call('SET', KEYS[3], string.format('%.0f %.0f', turns + again, tokens + more), 'EX', ARGV[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return count
