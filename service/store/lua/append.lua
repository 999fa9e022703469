-- append: events to the log of a turn that is still ours; renews its lease.
-- Repeating it with the same ids is harmless: what is there already is skipped.
--
-- KEYS: turn, log
-- ARGV: epoch int, claim str, lease_ms int, first int (id of the first event),
--       fields str... (field, value, ... of the turn), payloads str...
-- Returns 1 OK | 2 STOP (written, and the user wants it to end) | 0 FENCED | -1 GONE | -2 the log lost entries
local held = redis.call('HMGET', turn, 'epoch', 'state', 'last', 'stop', 'claim')
if not held[1] then return -1 end
if tonumber(held[1]) ~= epoch or (held[5] or '') ~= claim or held[2] ~= 'running' then return 0 end

local last = tonumber(held[3])
if first > last + 1 then return -2 end
for i = last - first + 2, #payloads do
  last = last + 1
  if not redis.call('XADD', log, 'NOMKSTREAM', string.format('%.0f-0', last), 'e', payloads[i]) then return -2 end
end
local time = redis.call('TIME')
local lease = time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms
redis.call('HSET', turn, 'lease', lease, 'last', last, unpack(fields))
redis.call('PUBLISH', log, last)
return held[4] and 2 or 1
