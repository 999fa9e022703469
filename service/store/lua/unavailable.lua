-- unavailable: models that the provider refuses to one API key, shared by all replicas with that key.
--
-- KEYS: circuit (its fields `unavailable <model>` are the ms, by Redis's clock, until which nobody asks)
-- ARGV: model str ('' = look), lasts_ms int (from now; 0 = it has answered)
-- Returns {model, ms left, ...} of those whose time is not over
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if model ~= '' and lasts_ms == 0 then
  redis.call('HDEL', circuit, 'unavailable ' .. model)
elseif model ~= '' then
  redis.call('HSET', circuit, 'unavailable ' .. model, now + lasts_ms)
  if redis.call('PTTL', circuit) < lasts_ms then redis.call('PEXPIRE', circuit, lasts_ms) end
end
local found, held = {}, redis.call('HGETALL', circuit)
for i = 1, #held, 2 do
  local refused = string.match(held[i], '^unavailable (.+)$')
  local left = refused and held[i + 1] - now or 0
  if left > 0 then
    found[#found + 1] = refused
    found[#found + 1] = left
  elseif refused then
    redis.call('HDEL', circuit, held[i])
  end
end
return found
