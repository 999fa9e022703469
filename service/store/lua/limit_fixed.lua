-- limit_fixed: take one request from every window, or from none. A window begins with its first request.
--
-- KEYS  1 mark of the send  2... a counter per window
-- ARGV  1 ms that the mark lives, 0 for no mark  2... amount, period ms per window,
--       last: who takes it, for refund
-- Returns 1 taken | 0 refused, then per window: used, ms until it has room again (until its end)
local free = ARGV[1] ~= '0' and redis.call('EXISTS', KEYS[1]) == 1
local taken, used, reset = 1, {}, {}
for i = 2, #KEYS do
  used[i] = tonumber(redis.call('GET', KEYS[i]) or 0)
  reset[i] = redis.call('PTTL', KEYS[i])
  if reset[i] < 0 then reset[i] = tonumber(ARGV[2 * i - 1]) end
  if used[i] >= tonumber(ARGV[2 * i - 2]) and not free then taken = 0 end
end
if taken == 1 and not free then
  for i = 2, #KEYS do
    used[i] = redis.call('INCR', KEYS[i])
    if used[i] == 1 then redis.call('PEXPIRE', KEYS[i], ARGV[2 * i - 1]) end
  end
  if ARGV[1] ~= '0' then redis.call('SET', KEYS[1], ARGV[#ARGV], 'PX', ARGV[1]) end
end
local answer = {taken}
for i = 2, #KEYS do
  answer[#answer + 1] = used[i]
  answer[#answer + 1] = reset[i]
end
return answer
