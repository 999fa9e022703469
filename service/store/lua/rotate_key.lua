-- rotate_key: give an API key a new secret; the old one lives until a time that may have passed.
--
-- KEYS  1 key
-- ARGV  1 digest of the new secret  2 now s  3 until when the old one lives s
-- Returns 1 done | 0 there is none that works
local held = redis.call('HMGET', KEYS[1], 'digest', 'revoked', 'expires')
if not held[1] or held[2] or tonumber(held[3] or 'inf') <= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'rotated', ARGV[2], 'previous', held[1],
  'previous_until', ARGV[3])
return 1
