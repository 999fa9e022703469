-- look: what a send to a session has to know before it begins, in one round trip: whether its request
-- limit lets it in, its session, the newest of its history. Who is over the limit is told no more.
-- Only where all keys are on one server.
--
-- KEYS: session
-- ARGV: limiting call (limit_fixed | limit_moving, or none), reading call (window)
-- Returns {what the limit returns, fields of the session, what window returns}: {} for the limit where
--         there is none, and nothing more where it refuses.
-- include limit_fixed
-- include limit_moving
-- include window
local limits, charged = {limit_fixed = limit_fixed, limit_moving = limit_moving}, {}
if limiting.script ~= '' then
  charged = limits[limiting.script](limiting.KEYS, limiting.ARGV)
  if charged[1] == 0 then return {charged} end
end
return {charged, redis.call('HGETALL', session), window(reading.KEYS, reading.ARGV)}
