-- limit_fixed: take one request from every window, or from none. A window begins with its first request.
--
-- KEYS: mark (of the send), windows... (a counter each)
-- ARGV: mark_ms int (that the mark lives, 0 for no mark), by str (who takes it, for refund),
--       amounts int... (per window), periods_ms int... (per window)
-- Returns 1 taken | 0 refused, then per window: used, ms until it has room again (until its end)
local free = mark_ms > 0 and redis.call('EXISTS', mark) == 1
local taken, used, reset = 1, {}, {}
for i, window in ipairs(windows) do
  used[i] = tonumber(redis.call('GET', window) or 0)
  reset[i] = redis.call('PTTL', window)
  if reset[i] < 0 then reset[i] = periods_ms[i] end
  if used[i] >= amounts[i] and not free then taken = 0 end
end
if taken == 1 and not free then
  for i, window in ipairs(windows) do
    used[i] = redis.call('INCR', window)
    if used[i] == 1 then redis.call('PEXPIRE', window, periods_ms[i]) end
  end
  if mark_ms > 0 then redis.call('SET', mark, by, 'PX', mark_ms) end
end
local answer = {taken}
for i = 1, #windows do
  answer[#answer + 1] = used[i]
  answer[#answer + 1] = reset[i]
end
return answer
