-- limit_moving: take one request from every window, or from none. A window is the last `period`.
--
-- KEYS: mark (of the send), windows... (a list of times each: ms, oldest first)
-- ARGV: mark_ms int (that the mark lives, 0 for no mark), by str (who takes it, for refund),
--       amounts int... (per window), periods_ms int... (per window)
-- Returns 1 taken | 0 refused, then per window: used, ms until it has room, or more room
local free = mark_ms > 0 and redis.call('EXISTS', mark) == 1
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken, used = 1, {}
for i, window in ipairs(windows) do
  local gone = now - periods_ms[i]
  local oldest = redis.call('LINDEX', window, 0)
  while oldest and tonumber(oldest) <= gone do
    redis.call('LPOP', window)
    oldest = redis.call('LINDEX', window, 0)
  end
  used[i] = redis.call('LLEN', window)
  if used[i] >= amounts[i] and not free then taken = 0 end
end
if taken == 1 and not free then
  for i, window in ipairs(windows) do
    used[i] = redis.call('RPUSH', window, now)
    redis.call('PEXPIRE', window, periods_ms[i])
  end
  if mark_ms > 0 then redis.call('SET', mark, by, 'PX', mark_ms) end
end
local answer = {taken}
for i, window in ipairs(windows) do
  local leaves = redis.call('LINDEX', window, math.max(0, used[i] - amounts[i]))
  answer[#answer + 1] = used[i]
  answer[#answer + 1] = leaves and tonumber(leaves) + periods_ms[i] - now or periods_ms[i]
end
return answer
