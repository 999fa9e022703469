-- fork: the beginning of another session, copied a part at a time; with the last part it is a session. Until
-- then nothing names it, and a copy that is never finished ends by itself.
--
-- KEYS: session, order, messages
-- ARGV: before int (messages in the parts before; -1: remove what there is of the copy), ttl int (s),
--       copied str... (position, id, JSON, ... of this part; without a position an image, put_image.lua),
--       fields str... (field, value, ... of the session; none: there is more to come)
-- Returns COPIED | EXISTS (it is a session already: nothing is changed) | LOST (parts before are not there)
-- Repeating it is harmless.
if redis.call('EXISTS', session) == 1 then return 'EXISTS' end
if before < 0 then
  redis.call('UNLINK', order, messages)
  return 'LOST'
end
local there = redis.call('ZCARD', order)
if there ~= before and there ~= before + #copied / 3 then return 'LOST' end
for first = 1, #copied, 1500 do
  local places, bodies = {}, {}
  for i = first, math.min(first + 1499, #copied), 3 do
    if copied[i] ~= '' then places[#places + 1], places[#places + 2] = copied[i], copied[i + 1] end
    bodies[#bodies + 1], bodies[#bodies + 2] = copied[i + 1], copied[i + 2]
  end
  if #places > 0 then redis.call('ZADD', order, unpack(places)) end
  redis.call('HSET', messages, unpack(bodies))
end
if #fields > 0 then redis.call('HSET', session, unpack(fields)) end
for _, key in ipairs({session, order, messages}) do redis.call('EXPIRE', key, ttl) end
return 'COPIED'
