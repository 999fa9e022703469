-- change_key: set fields of an API key that exists; may give its record an end.
--
-- KEYS  1 key
-- ARGV  1 end of the record s, 0 to leave it  2... field, value, ...
-- Returns 1 done | 0 there is none
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
if ARGV[1] ~= '0' then redis.call('EXPIREAT', KEYS[1], ARGV[1]) end
return 1
