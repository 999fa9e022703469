-- free: sessions that are gone leave their principal's account and list, and so do the logs of their turns.
--
-- KEYS: sizes, ends, listed (of the principal's sessions)
-- ARGV: ttl int (s of the keys), session_ids str...,
--       stored str... (what the turns that went with them had stored: the field of that name, made by seal)
-- Returns 1
-- include account
local time = redis.call('TIME')
local kept = account(sizes, ends, time[1] * 1000 + math.floor(time[2] / 1000), ttl)
for _, session_id in ipairs(session_ids) do
  kept.drop(session_id)
  redis.call('ZREM', listed, session_id)
end
for _, told in ipairs(stored) do
  local bytes, hour = string.match(told, '^%d+ %d+ (%d+) (%d+) ')
  if bytes then kept.logs(hour, -bytes) end
end
kept.keep()
return 1
