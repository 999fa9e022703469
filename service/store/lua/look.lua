-- look: what a send to a session has to know before it begins, in one round trip: whether its request
-- limit lets it in, its session, the newest of its history. Who is over the limit is told no more.
-- Only where all keys are on one server.
--
-- KEYS  1 session  2 order  3 messages  4... of the limit
-- ARGV  the 3 of window, those of the limit, the shape of the limit (fixed | moving, '' = no limit)
-- Returns {what the limit returns, fields of the session, what window returns}: {} for the limit where
--         there is none, and nothing more where it refuses.
local limit = {}
function limit.fixed(KEYS, ARGV)
-- include limit_fixed
end
function limit.moving(KEYS, ARGV)
-- include limit_moving
end
local function window(KEYS)
-- include window
end
local shape, charged = ARGV[#ARGV], {}
if shape ~= '' then
  local keys, asked = {}, {}
  for i = 4, #KEYS do keys[#keys + 1] = KEYS[i] end
  for i = 4, #ARGV - 1 do asked[#asked + 1] = ARGV[i] end
  charged = limit[shape](keys, asked)
  if charged[1] == 0 then return {charged} end
end
return {charged, redis.call('HGETALL', KEYS[1]), window({KEYS[2], KEYS[3]})}
