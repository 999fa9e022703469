-- charge: so many bytes more for a session, within what its principal may keep; or why not.
--
-- KEYS: sizes, ends
-- ARGV: session_id str, more int (bytes; fewer below 0), most_sessions int, most_bytes int (0 = no bound),
--       lives int (s that the session lives from now), ttl int (s of the keys),
--       only_new flag (only a session that is not there yet is charged)
-- Returns OK | SESSIONS | BYTES
-- include account
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = account(sizes, ends, now, ttl)
local old = kept.size(session_id)
if not (old and only_new) then
  local refusal = kept.refuses(session_id, more, most_sessions, most_bytes)
  if refusal then return refusal end
  kept.put(session_id, math.max(0, (old or 0) + more), now + lives * 1000)
end
kept.keep()
return 'OK'
