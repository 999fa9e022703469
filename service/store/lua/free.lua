-- free: sessions that are gone leave their principal's account and list, and so do the logs of their turns.
--
-- KEYS  1 sizes  2 ends  3 list of sessions
-- ARGV  1 ttl s of the keys  2 number of sessions, then their ids
--       then what the turns that went with them had stored (the field of that name, made by seal)
-- Returns 1
local function open(...)
-- include account
end
local time = redis.call('TIME')
local account = open(KEYS[1], KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
local logs = 3 + ARGV[2]
for i = 3, logs - 1 do
  account.drop(ARGV[i])
  redis.call('ZREM', KEYS[3], ARGV[i])
end
for i = logs, #ARGV do
  local bytes, hour = string.match(ARGV[i], '^%d+ %d+ (%d+) (%d+) ')
  if bytes then account.logs(hour, -bytes) end
end
account.keep()
return 1
