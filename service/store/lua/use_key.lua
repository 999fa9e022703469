-- use_key: an idempotency key is used for what begins no turn and adds no items, unless it was used before.
--
-- KEYS: session (where it is; it names the key, to be deleted with it, of many the newest), idem (the entry)
-- ARGV: fingerprint str, ttl int (s)
-- Returns the fingerprint of what it was used for
local known = redis.call('HGET', idem, 'fingerprint')
if known then return known end
redis.call('HSET', idem, 'turn', '-', 'fingerprint', fingerprint)
redis.call('EXPIRE', idem, ttl)
if redis.call('EXISTS', session) == 1 then
  local named = (redis.call('HGET', session, 'keyed') or '') .. idem .. '\n'
  if #named > 8192 then named = string.sub(named, string.find(named, '\n', 1, true) + 1) end
  redis.call('HSET', session, 'keyed', named)
end
return fingerprint
