-- hold: turns that still run, or wait in a queue, keep their places and reserved tokens.
-- A place that has lapsed meanwhile is taken again; a turn that is settled stays settled.
--
-- KEYS: running, reserved, sum (`held`)
-- ARGV: lease_ms int, ttl int (s), turn_ids str...
-- Returns the number of places held
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms
local count, again, more, cost = 0, 0, 0, 0
for _, turn_id in ipairs(turn_ids) do
  local held = redis.call('HGET', reserved, turn_id)
  if held and held ~= '-' then
    if redis.call('ZADD', running, deadline, turn_id) == 1 then
      again, more = again + 1, more + held
      cost = cost + (redis.call('HGET', reserved, '$' .. turn_id) or 0)
    end
    count = count + 1
  end
end
local turns, tokens, nanos = string.match(redis.call('GET', sum) or '', '^(%d+) (%d+) ?(%d*)$')
if turns then
  cost = cost + (tonumber(nanos) or 0)
  local held = string.format('%.0f %.0f', turns + again, tokens + more)
  redis.call('SET', sum, held .. (cost > 0 and string.format(' %.0f', cost) or ''), 'EX', ttl)
end
redis.call('EXPIRE', running, ttl)
redis.call('EXPIRE', reserved, ttl)
return count
