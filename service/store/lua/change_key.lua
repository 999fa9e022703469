-- change_key: set fields of an API key that exists; may give its record an end.
--
-- KEYS: key
-- ARGV: ends int (the end of the record, s since 1970; 0 to leave it), fields str... (field, value, ...)
-- Returns 1 done | 0 there is none
if redis.call('EXISTS', key) == 0 then return 0 end
redis.call('HSET', key, unpack(fields))
if ends > 0 then redis.call('EXPIREAT', key, ends) end
return 1
