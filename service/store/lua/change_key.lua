-- change_key: set and remove fields of an API key that exists; may give its record an end.
--
-- KEYS: key
-- ARGV: ends int (the end of the record, s since 1970; 0 to leave it), fields str... (field, value, ...),
--       removed str... (fields)
-- Returns 1 done | 0 there is none
if redis.call('EXISTS', key) == 0 then return 0 end
if #fields > 0 then redis.call('HSET', key, unpack(fields)) end
if #removed > 0 then redis.call('HDEL', key, unpack(removed)) end
if ends > 0 then redis.call('EXPIREAT', key, ends) end
return 1
