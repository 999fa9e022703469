-- set_own_limits: change what a person or a group may have, an entry of its own among at most `most`.
--
-- KEYS: entries (JSON by the entry's id; all its values are texts, since Lua's numbers are not exact beyond 2^53)
-- ARGV: id str, most int, fields str... (field, value, ...), removed str... (fields)
-- Returns 1 done | 0 there is no room for another entry
local held = redis.call('HGET', entries, id)
if not held and redis.call('HLEN', entries) >= most then return 0 end
local entry = held and cjson.decode(held) or {}
for i = 1, #fields, 2 do entry[fields[i]] = fields[i + 1] end
for _, name in ipairs(removed) do entry[name] = nil end
redis.call('HSET', entries, id, cjson.encode(entry))
return 1
