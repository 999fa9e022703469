-- put_image: an image of a session, once, beside its messages: in a field that begins with a byte which no
-- message's id can hold. The session is made where there is none, for who says something in it right after.
--
-- KEYS: session, messages
-- ARGV: digest str (of the image, in hexadecimal digits), data str, now_ms int, ephemeral_ttl int (s),
--       session_id str
-- Returns 1 it is new | 0 the session has it already
local field = '\2' .. digest
if redis.call('EXISTS', session) == 0 then
  redis.call('HSET', session, 'id', session_id, 'created', now_ms, 'updated', now_ms, 'named', '0', 'turns', '0')
  redis.call('EXPIRE', session, ephemeral_ttl)
end
if redis.call('HSETNX', messages, field, data) == 0 then return 0 end
redis.call('PEXPIRE', messages, redis.call('PTTL', session))
redis.call('HINCRBY', session, 'bytes', #data + 2 * #field + 160)
redis.call('HSET', session, 'images', (redis.call('HGET', session, 'images') or '') .. digest .. ' ')
return 1
