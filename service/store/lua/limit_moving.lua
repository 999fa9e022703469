-- limit_moving: take one request from every window, or from none. A window is the last `period`.
--
-- KEYS  1 mark of the send  2... a list of times (ms, oldest first) per window
-- ARGV  1 ms that the mark lives, 0 for no mark  2... amount, period ms per window,
--       last: who takes it, for refund
-- Returns 1 taken | 0 refused, then per window: used, ms until it has room, or more room
local free = ARGV[1] ~= '0' and redis.call('EXISTS', KEYS[1]) == 1
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken, used = 1, {}
for i = 2, #KEYS do
  local gone = now - tonumber(ARGV[2 * i - 1])
  local oldest = redis.call('LINDEX', KEYS[i], 0)
  while oldest and tonumber(oldest) <= gone do
    redis.call('LPOP', KEYS[i])
    oldest = redis.call('LINDEX', KEYS[i], 0)
  end
  used[i] = redis.call('LLEN', KEYS[i])
  if used[i] >= tonumber(ARGV[2 * i - 2]) and not free then taken = 0 end
end
if taken == 1 and not free then
  for i = 2, #KEYS do
    used[i] = redis.call('RPUSH', KEYS[i], now)
    redis.call('PEXPIRE', KEYS[i], ARGV[2 * i - 1])
  end
  if ARGV[1] ~= '0' then redis.call('SET', KEYS[1], ARGV[#ARGV], 'PX', ARGV[1]) end
end
local answer = {taken}
for i = 2, #KEYS do
  local amount, period = tonumber(ARGV[2 * i - 2]), tonumber(ARGV[2 * i - 1])
  local leaves = redis.call('LINDEX', KEYS[i], math.max(0, used[i] - amount))
  answer[#answer + 1] = used[i]
  answer[#answer + 1] = leaves and tonumber(leaves) + period - now or period
end
return answer
