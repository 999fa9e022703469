-- rotate_key: give an API key a new secret; the old one lives until a time that may have passed.
--
-- KEYS: key
-- ARGV: digest str (of the new secret), now int (s since 1970), previous_until int (s since 1970)
-- Returns 1 done | 0 there is none that works
local held = redis.call('HMGET', key, 'digest', 'revoked', 'expires')
if not held[1] or held[2] or tonumber(held[3] or 'inf') <= now then return 0 end
redis.call('HSET', key, 'digest', digest, 'rotated', now, 'previous', held[1], 'previous_until', previous_until)
return 1
