-- create_key: an API key's record and its place on the list, together.
--
-- KEYS: key, index
-- ARGV: now num (s since 1970, for the order), ends int (the end of the record, s since 1970; 0 for none),
--       id str, fields str... (field, value, ...)
-- Returns 1 created | 0 there is one of that id
if redis.call('EXISTS', key) == 1 then return 0 end
redis.call('HSET', key, unpack(fields))
if ends > 0 then redis.call('EXPIREAT', key, ends) end
redis.call('ZADD', index, now, id)
return 1
