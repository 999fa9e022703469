-- put_image: an image of a session, once, beside its messages: in a field that begins with a byte which no
-- message's id can hold. The session is made where there is none, for who says something in it right after.
--
-- KEYS: session, messages
-- ARGV: digest str (of the image, in hexadecimal digits), data str ('' where it should be there), now_ms int,
--       ephemeral_ttl int (s), session_id str, turn_id str (which is about to name it, until release_image)
-- Returns 1 it is new | 0 the session has it already | -1 it has not, and there are no data
local field = '\2' .. digest
if data == '' and redis.call('HEXISTS', messages, field) == 0 then return -1 end
if redis.call('EXISTS', session) == 0 then
  redis.call('HSET', session, 'id', session_id, 'created', now_ms, 'updated', now_ms, 'named', '0', 'turns', '0')
  redis.call('EXPIRE', session, ephemeral_ttl)
end
local holders = 'held ' .. digest
redis.call('HSET', session, holders, (redis.call('HGET', session, holders) or '') .. turn_id .. ' ')
local first = redis.call('EXISTS', messages) == 0
if redis.call('HSETNX', messages, field, data) == 0 then return 0 end
local left = redis.call('PTTL', session)
if left > 0 then redis.call('PEXPIRE', messages, left) end  -- -1, of one that never ends, would be its end now
-- A session of before the field `bytes` is measured whole by begin or seal, this image with it.
if first or redis.call('HEXISTS', session, 'bytes') == 1 then
  redis.call('HINCRBY', session, 'bytes', #data + 2 * #field + 160)
end
redis.call('HSET', session, 'images', (redis.call('HGET', session, 'images') or '') .. digest .. ' ')
return 1
