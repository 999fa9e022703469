-- reserve: a place among the principal's running turns and tokens of all its budgets, or neither.
-- Lapsed places are dropped first. Repeating it with the same turn id is harmless.
-- Nor where the principal may not keep more sessions or bytes.
--
-- KEYS  1 running  2 reserved  3 held  4 tokens of this month  5 of this day  6 of this minute
--       7 sizes  8 ends (account.lua)
-- ARGV  1 turn id  2 lease ms  3 running turns allowed (0 = no bound)  4 prompt tokens
--       5 completion limit  6 ttl s  7 least completion worth sending
--       8 budget of a month  9 of a day  10 of a minute (0 = none)
--       11 session id  12 bytes that the turn adds  13 sessions allowed  14 bytes allowed (0 = no bound)
--       15 seconds that the session lives
-- Returns {OK, tokens} (fewer than asked for where a budget has no more room) | {TURNS, running} |
--         {MONTH | DAY | MINUTE, ms} (0 = as soon as running turns end, -1 = never), the longest of them |
--         {SESSIONS | BYTES, 0}
-- An entry of `reserved` is the one chance to settle the turn: `-` where nothing is bounded.
-- `held` is the number of running turns and what they reserved, so that no begin has to add up what
-- hundreds hold. It counts while that number is right; where places have lapsed they are added up anew.
local function open(...)
-- include account
end
local running, reserved, sum = KEYS[1], KEYS[2], KEYS[3]
local id, prompt, completion = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local granted = prompt + completion
local held = redis.call('HGET', reserved, id)
if held then
  local tokens = tonumber(held) or 0
  return {'OK', tokens > 0 and tokens or granted}
end

local places = tonumber(ARGV[3])
local budgets = tonumber(ARGV[8]) + tonumber(ARGV[9]) + tonumber(ARGV[10]) > 0
local bounded = places > 0 or budgets
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local account, adds = nil, tonumber(ARGV[12])
if tonumber(ARGV[13]) + tonumber(ARGV[14]) > 0 then
  account = open(KEYS[7], KEYS[8], now, ARGV[6])
  local refusal = account.refuses(ARGV[11], adds, tonumber(ARGV[13]), tonumber(ARGV[14]))
  if refusal then return {refusal, 0} end
end
local taken, others = 0, 0
if bounded then
  redis.call('ZREMRANGEBYSCORE', running, '-inf', now)
  taken = redis.call('ZCARD', running)
  local turns, tokens = string.match(redis.call('GET', sum) or '', '^(%d+) (%d+)$')
  if tonumber(turns) == taken then
    others = tonumber(tokens)
  else
    local ids = redis.call('ZRANGE', running, 0, -1)
    for i = 1, #ids, 1000 do
      for _, tokens in ipairs(redis.call('HMGET', reserved, unpack(ids, i, math.min(i + 999, #ids)))) do
        others = others + (tonumber(tokens) or 0)
      end
    end
    redis.call('SET', sum, string.format('%.0f %.0f', taken, others), 'EX', ARGV[6])
  end
end
if places > 0 and taken >= places then return {'TURNS', taken} end

if budgets then
  local refusal = nil
  for i, name in ipairs({'MONTH', 'DAY', 'MINUTE'}) do
    local budget = tonumber(ARGV[7 + i])
    if budget > 0 then
      local used = tonumber(redis.call('GET', KEYS[3 + i]) or 0)
      -- A small budget takes a shorter answer than is worth sending, rather than none at all.
      local least = prompt + math.min(completion, tonumber(ARGV[7]), math.floor(budget / 4))
      local room = budget - used - others
      if room < least then
        if budget < least then return {name, -1} end
        local wait = budget - used >= least and 0 or math.max(1, redis.call('PTTL', KEYS[3 + i]))
        if not refusal or wait > refusal[2] then refusal = {name, wait} end
      end
      granted = math.min(granted, room)
    end
  end
  if refusal then return refusal end
end

if bounded then
  local tokens = budgets and granted or 0
  redis.call('HSET', reserved, id, tokens)
  taken = taken + redis.call('ZADD', running, now + tonumber(ARGV[2]), id)
  redis.call('SET', sum, string.format('%.0f %.0f', taken, others + tokens), 'EX', ARGV[6])
  redis.call('EXPIRE', running, ARGV[6])
else
  redis.call('HSET', reserved, id, '-')
end
redis.call('EXPIRE', reserved, ARGV[6])
if account then
  account.touch(ARGV[11], now + ARGV[15] * 1000)
  -- An hour: longer than turns run. Who settles it takes it off.
  account.put('/' .. id, adds, now + 3600000)
  account.keep()
end
return {'OK', granted}
