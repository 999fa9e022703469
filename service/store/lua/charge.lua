-- charge: so many bytes more for a session, within what its principal may keep; or why not.
--
-- KEYS  1 sizes  2 ends
-- ARGV  1 session id  2 bytes more (fewer below 0)  3 sessions allowed  4 bytes allowed (0 = no bound)
--       5 seconds that the session lives from now  6 ttl s of the keys
--       7 only a session that is not there yet is charged 0|1
-- Returns OK | SESSIONS | BYTES
local function open(...)
-- include account
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local account = open(KEYS[1], KEYS[2], now, ARGV[6])
local session, more = ARGV[1], tonumber(ARGV[2])
local old = account.size(session)
if not (old and ARGV[7] == '1') then
  local refusal = account.refuses(session, more, tonumber(ARGV[3]), tonumber(ARGV[4]))
  if refusal then return refusal end
  account.put(session, math.max(0, (old or 0) + more), now + ARGV[5] * 1000)
end
account.keep()
return 'OK'
