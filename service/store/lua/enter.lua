-- enter: what stands between a send and its turn, in one round trip: the request limit, the place and
-- the tokens, the announcement, the begin. Only where all keys are on one server. Whatever refuses
-- ends it, and so does the time: a Redis that stood still must not begin what nobody waits for.
-- Repeating it with the same turn id is harmless; the limit has a mark for that.
--
-- KEYS  1-8 of begin  9-16 of reserve  17-18 of own  19... of the limit
-- ARGV  those of begin, the 15 of reserve, the 3 of own, those of the limit; then
--       the shape of the limit (fixed | moving, '' = no limit) and the number of its arguments
-- Returns {what the limit returns, what reserve returns, what begin returns}: {} for the limit where
--         there is none, and nothing of what was not called. begin is called where all was granted.
--         {} when its time is over (18 of begin).
local function begin()
-- include begin
end
local function reserve(KEYS, ARGV)
-- include reserve
end
local function own(KEYS, ARGV)
-- include own
end
local limit = {}
function limit.fixed(KEYS, ARGV)
-- include limit_fixed
end
function limit.moving(KEYS, ARGV)
-- include limit_moving
end
local function slice(list, first, last)
  local found = {}
  for i = first, last do found[#found + 1] = list[i] end
  return found
end

local shape, count, charged = ARGV[#ARGV - 1], tonumber(ARGV[#ARGV]), {}
local at = #ARGV - 2 - count
local time, till = redis.call('TIME'), tonumber(ARGV[18])
if till > 0 and time[1] * 1000 + math.floor(time[2] / 1000) > till then return {} end
-- A store that refuses writes says so here, before a limit is charged or anything is reserved.
redis.call('ZADD', KEYS[2], 'XX', 0, '\0')
if shape ~= '' then
  charged = limit[shape](slice(KEYS, 19, #KEYS), slice(ARGV, at + 1, at + count))
  if charged[1] == 0 then return {charged} end
end
local asked = slice(ARGV, at - 17, at - 3)
local reserved = reserve(slice(KEYS, 9, 16), asked)
if reserved[1] ~= 'OK' then return {charged, reserved} end
own(slice(KEYS, 17, 18), slice(ARGV, at - 2, at))
if reserved[2] < asked[4] + asked[5] then return {charged, reserved} end
return {charged, reserved, begin()}
