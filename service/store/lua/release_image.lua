-- release_image: a turn that was about to name an image has begun, or never will. One that nobody names, nor is
-- about to, goes, and with it a session that was made for it alone.
--
-- KEYS: session, messages
-- ARGV: digest str, turn_id str, begun flag,
--       unnamed str (the state of the session in which its caller has seen that nothing names it, '' = look)
-- Returns the bytes that are free by it | -1 the session is gone
-- Of a long session it stays until that ends: to look through 1 MiB takes Redis a millisecond.
local field, holders = '\2' .. digest, 'held ' .. digest
local function without(text, word)
  local at = string.find(text, word, 1, true)
  return at and string.sub(text, 1, at - 1) .. string.sub(text, at + #word) or text
end
local others = without(redis.call('HGET', session, holders) or '', turn_id .. ' ')
if others ~= '' then redis.call('HSET', session, holders, others) else redis.call('HDEL', session, holders) end
local length = redis.call('HSTRLEN', messages, field)
if begun or others ~= '' or length == 0 then return 0 end
if unnamed ~= '' then
  local now = {}
  for i, field in ipairs({'turns', 'seq', 'versions_made'}) do now[i] = redis.call('HGET', session, field) or '' end
  if table.concat(now, ' ') ~= unnamed then return 0 end
elseif redis.call('HLEN', messages) > 500 then
  return 0
end
local read = 0
for _, name in ipairs(unnamed == '' and redis.call('HKEYS', messages) or {}) do
  if string.byte(name) ~= 2 then
    read = read + redis.call('HSTRLEN', messages, name)
    if read > 1048576 then return 0 end
    local body = redis.call('HGET', messages, name)
    if string.find(body, digest, 1, true) then return 0 end
  end
end
redis.call('HDEL', messages, field)
local size = length + 2 * #field + 160  -- as in put_image
if redis.call('HEXISTS', session, 'bytes') == 1 then redis.call('HINCRBY', session, 'bytes', -size) end
redis.call('HSET', session, 'images', without(redis.call('HGET', session, 'images') or '', digest .. ' '))
local told = redis.call('HMGET', session, 'named', 'turns')
if redis.call('EXISTS', messages) == 0 and told[1] == '0' and told[2] == '0' then
  redis.call('DEL', session)
  return -1
end
return size
