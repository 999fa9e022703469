-- settle: give the turn's place and reserved tokens back and book what it used and keeps, once.
--
-- KEYS: running, reserved, sum (`held`), month (tokens of this one), day, minute,
--       month_spent (nanos of this one), day_spent, usage (of the day), sizes, ends (account.lua),
--       listed (of the principal's sessions)
-- ARGV: stored str (what the seal says is, '' where the turn never began or nobody knows; first, for finish),
--       turn_id str, model str ('' = the turn never began: book nothing), prompt_tokens int,
--       completion_tokens int, cached_tokens int (of the prompt), reasoning_tokens int (of the completion),
--       usage_ttl int (s), session_id str,
--       account_ttl int (s, 0 where nothing is counted), currency str, nanos int (what it has cost, -1 = unknown)
-- Returns 1 booked | 0 settled before, or never reserved
-- include account
local held = redis.call('HGET', reserved, turn_id)
if not held then return 0 end
local money = tonumber(redis.call('HGET', reserved, '$' .. turn_id) or nil)
redis.call('HDEL', reserved, turn_id, '$' .. turn_id)
if redis.call('ZREM', running, turn_id) == 1 then
  local turns, tokens, reserved_cost = string.match(redis.call('GET', sum) or '', '^(%d+) (%d+) ?(%d*)$')
  if turns then
    local left = string.format('%.0f %.0f', turns - 1, tokens - (tonumber(held) or 0))
    local nanos_left = (tonumber(reserved_cost) or 0) - (money or 0)
    if nanos_left > 0 then left = left .. string.format(' %.0f', nanos_left) end
    redis.call('SET', sum, left, 'KEEPTTL')
  end
end
local bytes, lives, logs, hour, updated = string.match(stored, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
if account_ttl > 0 then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local kept = account(sizes, ends, now, account_ttl)
  kept.drop('/' .. turn_id)
  if bytes then
    kept.put(session_id, tonumber(bytes), now + lives * 1000)
    kept.logs(hour, tonumber(logs))
  elseif model == '' and kept.size(session_id) == 0 then
    kept.drop(session_id)  -- it has not begun either
  end
  kept.keep()
end
-- The seal has renewed the session: on the list it is as young.
if updated then redis.call('ZADD', listed, 'XX', 'GT', updated, session_id) end
if model == '' then return 1 end

if redis.call('HINCRBY', usage, 'turns ' .. model, 1) == 1 then redis.call('EXPIRE', usage, usage_ttl) end
redis.call('HINCRBY', usage, 'prompt_tokens ' .. model, prompt_tokens)
redis.call('HINCRBY', usage, 'completion_tokens ' .. model, completion_tokens)
if cached_tokens > 0 then redis.call('HINCRBY', usage, 'cached_tokens ' .. model, cached_tokens) end
if reasoning_tokens > 0 then redis.call('HINCRBY', usage, 'reasoning_tokens ' .. model, reasoning_tokens) end
if nanos >= 0 then redis.call('HINCRBY', usage, 'priced_turns ' .. model, 1) end
if nanos > 0 then redis.call('HINCRBY', usage, 'cost:' .. currency .. ' ' .. model, string.format('%.0f', nanos)) end

local tokens = prompt_tokens + completion_tokens
if (tonumber(held) or 0) <= 0 or tokens == 0 then return 1 end
-- Of what nobody knows the cost of, a budget in money is charged what was reserved.
local spent = money and (nanos >= 0 and nanos or money) or 0

-- A period's counter expires with the period (UTC), and that is all that resets it.
local function minute_ends(seconds) return (math.floor(seconds / 60) + 1) * 60 end
local function day_ends(seconds) return (math.floor(seconds / 86400) + 1) * 86400 end
local function month_ends(seconds)
  local today, ends, year, number = math.floor(seconds / 86400), 0, 1970, 1
  local lengths = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
  while ends <= today do
    local leap = number == 2 and year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
    ends = ends + lengths[number] + (leap and 1 or 0)
    number = number % 12 + 1
    if number == 1 then year = year + 1 end
  end
  return ends * 86400
end
local function count(counter, amount, period_ends)
  if amount <= 0 then return end
  if redis.call('INCRBY', counter, string.format('%.0f', amount)) == amount then
    redis.call('PEXPIREAT', counter, period_ends(redis.call('TIME')[1]) * 1000)
  end
end
count(month, tokens, month_ends)
count(day, tokens, day_ends)
count(minute, tokens, minute_ends)
count(month_spent, spent, month_ends)
count(day_spent, spent, day_ends)
return 1
