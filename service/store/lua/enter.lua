-- enter: what stands between a send and its turn, in one round trip: the request limit, the place and
-- the tokens, the announcement, the begin. Only where all keys are on one server. Whatever refuses
-- ends it, and so does the time: a Redis that stood still must not begin what nobody waits for.
-- Repeating it with the same turn id is harmless; the limit has a mark for that.
--
-- KEYS: order (of the session)
-- ARGV: till int (until when it may begin, ms; 0 = always), tokens int (with fewer the begin waits),
--       limiting call (limit_fixed | limit_moving, or none), reserving call (reserve), announcing call (own),
--       beginning call (begin)
-- Returns {what the limit returns, what reserve returns, what begin returns}: {} for the limit where
--         there is none, and nothing of what was not called. begin is called where all was granted.
--         {} when its time is over.
-- include begin
-- include reserve
-- include own
-- include limit_fixed
-- include limit_moving
local limits, charged = {limit_fixed = limit_fixed, limit_moving = limit_moving}, {}
local time = redis.call('TIME')
if till > 0 and time[1] * 1000 + math.floor(time[2] / 1000) > till then return {} end
-- A store that refuses writes says so here, before a limit is charged or anything is reserved.
redis.call('ZADD', order, 'XX', 0, '\0')
if limiting.script ~= '' then
  charged = limits[limiting.script](limiting.KEYS, limiting.ARGV)
  if charged[1] == 0 then return {charged} end
end
local reserved = reserve(reserving.KEYS, reserving.ARGV)
if reserved[1] ~= 'OK' then return {charged, reserved} end
own(announcing.KEYS, announcing.ARGV)
if reserved[2] < tokens then return {charged, reserved} end
return {charged, reserved, begin(beginning.KEYS, beginning.ARGV)}
