-- versions: the earlier versions of what a session says now, or all that it has.
--
-- KEYS: session, order, messages
-- ARGV: everything flag (those of another past too)
-- Returns {version, id of the message that stands in its place now or, while none does, before it, what it
--         holds (version.lua), ...}
-- include version
local kept, found = version(session, order, messages), {}
for _, entry in ipairs(kept.all()) do
  local body = kept.body(entry[1])
  if body and (everything or kept.mark(entry[2]) == entry[3]) then
    local now = redis.call('ZRANGEBYSCORE', order, entry[2], '+inf', 'LIMIT', 0, 1)[1]
      or redis.call('ZREVRANGEBYSCORE', order, entry[2], '-inf', 'LIMIT', 0, 1)[1]
    found[#found + 1] = entry[1]
    found[#found + 1] = now or ''
    found[#found + 1] = body
  end
end
return found
