-- settle: give the turn's place and reserved tokens back and book what it used and keeps, once.
--
-- KEYS  1 running  2 reserved  3 held  4 tokens of this month  5 of this day  6 of this minute
--       7 the day's usage  8 sizes  9 ends (account.lua)  10 list of sessions
-- ARGV  1 turn id  2 model ('' = the turn never began: book nothing)  3 prompt tokens
--       4 completion tokens  5 ttl s of the usage  6 session id
--       7 what the seal says is stored, '' where the turn never began or nobody knows
--       8 ttl s of the account, 0 where nothing is counted
--       9 cached tokens (of the prompt)  10 reasoning tokens (of the completion)
-- Returns 1 booked | 0 settled before, or never reserved
local function open(...)
-- include account
end
local id, model, session = ARGV[1], ARGV[2], ARGV[6]
local held = redis.call('HGET', KEYS[2], id)
if not held then return 0 end
redis.call('HDEL', KEYS[2], id)
if redis.call('ZREM', KEYS[1], id) == 1 then
  local turns, tokens = string.match(redis.call('GET', KEYS[3]) or '', '^(%d+) (%d+)$')
  if turns then
    local sum = string.format('%.0f %.0f', turns - 1, tokens - (tonumber(held) or 0))
    redis.call('SET', KEYS[3], sum, 'KEEPTTL')
  end
end
local bytes, lives, logs, hour, updated = string.match(ARGV[7], '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
if ARGV[8] ~= '0' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local account = open(KEYS[8], KEYS[9], now, ARGV[8])
  account.drop('/' .. id)
  if bytes then
    account.put(session, tonumber(bytes), now + lives * 1000)
    account.logs(hour, tonumber(logs))
  elseif model == '' and account.size(session) == 0 then
    account.drop(session)  -- it has not begun either
  end
  account.keep()
end
-- The seal has renewed the session: on the list it is as young.
if updated then redis.call('ZADD', KEYS[10], 'XX', 'GT', updated, session) end
if model == '' then return 1 end

redis.call('HINCRBY', KEYS[7], 'turns ' .. model, 1)
redis.call('HINCRBY', KEYS[7], 'prompt_tokens ' .. model, ARGV[3])
redis.call('HINCRBY', KEYS[7], 'completion_tokens ' .. model, ARGV[4])
if ARGV[9] ~= '0' then redis.call('HINCRBY', KEYS[7], 'cached_tokens ' .. model, ARGV[9]) end
if ARGV[10] ~= '0' then redis.call('HINCRBY', KEYS[7], 'reasoning_tokens ' .. model, ARGV[10]) end
redis.call('EXPIRE', KEYS[7], ARGV[5])

local tokens = tonumber(ARGV[3]) + tonumber(ARGV[4])
if (tonumber(held) or 0) <= 0 or tokens == 0 then return 1 end

-- A period's counter expires with the period (UTC), and that is all that resets it.
local seconds = tonumber(redis.call('TIME')[1])
local today = math.floor(seconds / 86400)
local month_ends, year, month = 0, 1970, 1
local lengths = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
while month_ends <= today do
  local leap = month == 2 and year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  month_ends = month_ends + lengths[month] + (leap and 1 or 0)
  month = month % 12 + 1
  if month == 1 then year = year + 1 end
end
local ends = {month_ends * 86400, (today + 1) * 86400, (math.floor(seconds / 60) + 1) * 60}
for i = 1, 3 do
  redis.call('INCRBY', KEYS[3 + i], tokens)
  if redis.call('PTTL', KEYS[3 + i]) < 0 then redis.call('PEXPIREAT', KEYS[3 + i], ends[i] * 1000) end
end
return 1
