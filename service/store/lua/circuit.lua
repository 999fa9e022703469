-- circuit: the condition that no retry mends (`auth`, `blocked`), shared by all replicas with one API key.
-- The first failure is shown, several in a row refuse calls: for a while that doubles, and then
-- one caller at a time tries again. A success deletes the key; a try that has shown nothing lets the next one try.
--
-- KEYS: circuit
-- ARGV: event str (look | ask: may I call? | failed | freed: the try showed nothing), why str (the reason, of a failure),
--       first_open_ms int, longest_open_ms int, probe_ms int (that one probe may take), ttl int (s),
--       enough int (failures in a row that refuse calls)
-- Returns {reason or '', ms left, refuses 0|1}; to `ask`: refuses 0 for who may call
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', circuit, 'reason', 'until', 'open', 'probe', 'failures')
local reason, ends, failures = held[1], tonumber(held[2] or 0), tonumber(held[5] or 0)

if event == 'failed' then
  reason, failures = why, failures + 1
  local open = tonumber(held[3] or first_open_ms)
  -- Calls that were under way together do not double it.
  if failures > enough and ends <= now then open = math.min(2 * open, longest_open_ms) end
  if ends <= now or failures == enough then ends = now + open end
  redis.call('HSET', circuit, 'reason', reason, 'until', ends, 'open', open, 'probe', 0, 'failures', failures)
  redis.call('EXPIRE', circuit, ttl)
  return {reason, ends - now, failures >= enough and 1 or 0}
end
if not reason then return {'', 0, 0} end
if event == 'freed' then
  redis.call('HSET', circuit, 'probe', 0)
  event = 'look'
end
if failures < enough then return {reason, math.max(0, ends - now), 0} end
if ends > now then return {reason, ends - now, 1} end
if event == 'look' then return {reason, 0, 1} end
if tonumber(held[4]) > now then return {reason, tonumber(held[4]) - now, 1} end
redis.call('HSET', circuit, 'probe', now + probe_ms)
return {reason, 0, 0}
