-- append: events to the log of a turn that is still ours; renews its lease.
-- Repeating it with the same ids is harmless: what is there already is skipped.
--
-- KEYS  1 turn  2 log
-- ARGV  1 epoch  2 claim  3 lease ms  4 id of the first event  5 number of turn fields, then field, value, ...
--       then the payloads
-- Returns 1 OK | 2 STOP (written, and the user wants it to end) | 0 FENCED | -1 GONE | -2 the log lost entries
local turn, log = KEYS[1], KEYS[2]
local held = redis.call('HMGET', turn, 'epoch', 'state', 'last', 'stop', 'claim')
if not held[1] then return -1 end
if held[1] ~= ARGV[1] or (held[5] or '') ~= ARGV[2] or held[2] ~= 'running' then return 0 end

local first, last = tonumber(ARGV[4]), tonumber(held[3])
if first > last + 1 then return -2 end
local payloads = 6 + 2 * ARGV[5]
local n = first
for i = payloads, #ARGV do
  if n > last then
    if not redis.call('XADD', log, 'NOMKSTREAM', string.format('%.0f-0', n), 'e', ARGV[i]) then return -2 end
    last = n
  end
  n = n + 1
end
local time = redis.call('TIME')
local lease = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
redis.call('HSET', turn, 'lease', lease, 'last', last, unpack(ARGV, 6, payloads - 1))
redis.call('PUBLISH', log, last)
return held[4] and 2 or 1
