-- create_key: an API key's record and its place on the list, together.
--
-- KEYS  1 key  2 index
-- ARGV  1 now s, for the order  2 end of the record s, 0 for none  3 id  4... field, value, ...
-- Returns 1 created | 0 there is one of that id
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
if ARGV[2] ~= '0' then redis.call('EXPIREAT', KEYS[1], ARGV[2]) end
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[3])
return 1
