-- choose_version: put a version back into its place; what stands there now becomes a version.
--
-- KEYS: session, order, messages
-- ARGV: chosen str (a version), most_versions int, now_ms int
-- Returns {CHOSEN, '', whether images may have lost the last that named them} |
--         {NO_VERSION} (or none of what the session says now) | {BUSY, turn} |
--         {TOO_LONG} (what stands there now would not fit: it would be lost)
-- include version
local versions = version(session, order, messages)
local active = redis.call('HGET', session, 'active')
if active then return {'BUSY', active} end
local entries = versions.all()
for i, entry in ipairs(entries) do
  local place, packed = entry[2], versions.body(entry[1])
  if entry[1] == chosen and packed and versions.mark(place) == entry[3] then
    if not versions.fits(place) then return {'TOO_LONG'} end
    local bytes = -versions.drop(entries, i)
    bytes = bytes + versions.keep(place, math.max(1, most_versions), now_ms)
    local off = redis.call('ZRANGEBYSCORE', order, place, '+inf')
    for _, id in ipairs(off) do
      bytes = bytes - redis.call('HSTRLEN', messages, id) - 2 * #id - 160  -- as in begin
    end
    if #off > 0 then redis.call('HDEL', messages, unpack(off)) end
    redis.call('ZREMRANGEBYSCORE', order, place, '+inf')
    local at = string.find(packed, '\n', 1, true) + 1
    while at <= #packed do
      local head = string.find(packed, '\n', at, true)
      local position, id, body = string.match(string.sub(packed, at, head), '^(%S+) (%d+) (%d+)\n$')
      at = head + 1 + id + body
      id, body = string.sub(packed, head + 1, head + id), string.sub(packed, head + id + 1, at - 1)
      redis.call('ZADD', order, position, id)
      redis.call('HSET', messages, id, body)
      bytes = bytes + #body + 2 * #id + 160
    end
    redis.call('HINCRBY', session, 'bytes', bytes)
    redis.call('HSET', session, 'updated', now_ms)
    redis.call('PUBLISH', session, 1)  -- for whoever has it open
    return {'CHOSEN', '', versions.gone and 1 or 0}
  end
end
return {'NO_VERSION'}
