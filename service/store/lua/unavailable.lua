-- unavailable: models that the provider refuses to one API key, shared by all replicas with that key.
--
-- KEYS  1 circuit: its fields `unavailable <model>` are the ms (Redis's clock) until which nobody asks
-- ARGV  none (look) | 1 model  2 ms from now (0 = it has answered)
-- Returns {model, ms left, ...} of those whose time is not over
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] and ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], 'unavailable ' .. ARGV[1])
elseif ARGV[1] then
  redis.call('HSET', KEYS[1], 'unavailable ' .. ARGV[1], now + ARGV[2])
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
end
local found, held = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #held, 2 do
  local model = string.match(held[i], '^unavailable (.+)$')
  local left = model and held[i + 1] - now or 0
  if left > 0 then
    found[#found + 1] = model
    found[#found + 1] = left
  elseif model then
    redis.call('HDEL', KEYS[1], held[i])
  end
end
return found
