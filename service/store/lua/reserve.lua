-- reserve: a place among the principal's running turns and room in all its budgets, or neither.
-- Lapsed places are dropped first. Repeating it with the same turn id is harmless.
-- Nor where the principal may not keep more sessions or bytes.
--
-- KEYS: running, reserved, sum (`held`), month (tokens of this one), day, minute,
--       month_spent (nanos of this one), day_spent, sizes, ends (account.lua)
-- ARGV: turn_id str, lease_ms int, places int (running turns allowed, 0 = no bound), prompt int (tokens),
--       completion int (its limit), ttl int (s), least_completion int (worth sending),
--       month_budget int (0 = none), day_budget int, minute_budget int, session_id str,
--       adds int (bytes that the turn adds), most_sessions int, most_bytes int (0 = no bound),
--       lives int (s that the session lives), month_money int (nanos, 0 = none), day_money int,
--       input_price int (picos a token), output_price int
-- Returns {OK, tokens} (fewer than asked for where a budget has no more room) | {TURNS, running} |
--         {MONTH | DAY | MINUTE | MONTH_MONEY | DAY_MONEY, ms} (0 = as soon as running turns end, -1 = never),
--         the longest of them |
--         {SESSIONS | BYTES, 0}
-- An entry of `reserved` is the one chance to settle the turn: `-` where nothing is bounded. What the turn may
-- cost stands beside it (`$<turn>`, nanos), under a budget in money only.
-- `held` is the number of running turns and what they reserved (tokens, nanos), so that no begin has to add
-- up what hundreds hold. It counts while that number is right; where places have lapsed they are added up anew.
-- include account
local granted = prompt + completion
local held = redis.call('HGET', reserved, turn_id)
if held then
  local tokens = tonumber(held) or 0
  return {'OK', tokens > 0 and tokens or granted}
end

local money = month_money + day_money > 0
local budgets = money or month_budget + day_budget + minute_budget > 0
local bounded = places > 0 or budgets
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = nil
if most_sessions + most_bytes > 0 then
  kept = account(sizes, ends, now, ttl)
  local refusal = kept.refuses(session_id, adds, most_sessions, most_bytes)
  if refusal then return {refusal, 0} end
end
-- As it stands in `held`: money only where some is reserved, as a worker of before budgets in money writes it.
local function summed(turns, tokens, nanos)
  return string.format('%.0f %.0f', turns, tokens) .. (nanos > 0 and string.format(' %.0f', nanos) or '')
end
local taken, others, others_cost = 0, 0, 0
if bounded then
  redis.call('ZREMRANGEBYSCORE', running, '-inf', now)
  taken = redis.call('ZCARD', running)
  local turns, tokens, nanos = string.match(redis.call('GET', sum) or '', '^(%d+) (%d+) ?(%d*)$')
  if tonumber(turns) == taken then
    others, others_cost = tonumber(tokens), tonumber(nanos) or 0
  else
    local ids = redis.call('ZRANGE', running, 0, -1)
    for i = 1, #ids, 1000 do
      local some = {unpack(ids, i, math.min(i + 999, #ids))}
      for _, tokens in ipairs(redis.call('HMGET', reserved, unpack(some))) do
        others = others + (tonumber(tokens) or 0)
      end
      for n, id in ipairs(some) do some[n] = '$' .. id end
      for _, nanos in ipairs(redis.call('HMGET', reserved, unpack(some))) do
        others_cost = others_cost + (tonumber(nanos) or 0)
      end
    end
    redis.call('SET', sum, summed(taken, others, others_cost), 'EX', ttl)
  end
end
if places > 0 and taken >= places then return {'TURNS', taken} end

-- What so many tokens of an answer cost, with the prompt, in nanos.
local function priced(tokens) return math.ceil((prompt * input_price + tokens * output_price) / 1000) end

if budgets then
  local refusal = nil
  local periods = {
    {'MONTH', month_budget, month}, {'DAY', day_budget, day}, {'MINUTE', minute_budget, minute},
    {'MONTH_MONEY', month_money, month_spent, true}, {'DAY_MONEY', day_money, day_spent, true},
  }
  for _, period in ipairs(periods) do
    local name, budget, counter, in_money = unpack(period)
    if budget > 0 then
      local used = tonumber(redis.call('GET', counter) or 0)
      local room = budget - used - (in_money and others_cost or others)
      -- A small budget takes a shorter answer than is worth sending, rather than none at all.
      local quarter = math.floor(budget / 4)
      if in_money then quarter = output_price > 0 and math.floor(quarter * 1000 / output_price) or completion end
      local least = math.min(completion, least_completion, quarter)
      least = in_money and priced(least) or prompt + least
      if room < least then
        if budget < least then return {name, -1} end
        local wait = budget - used >= least and 0 or math.max(1, redis.call('PTTL', counter))
        if not refusal or wait > refusal[2] then refusal = {name, wait} end
      end
      if not in_money then
        granted = math.min(granted, room)
      elseif output_price > 0 then
        granted = math.min(granted, prompt + math.floor((room * 1000 - prompt * input_price) / output_price))
      end
    end
  end
  if refusal then return refusal end
end

if bounded then
  local tokens = budgets and granted or 0
  local nanos = money and priced(granted - prompt) or 0
  redis.call('HSET', reserved, turn_id, tokens)
  if money then redis.call('HSET', reserved, '$' .. turn_id, string.format('%.0f', nanos)) end
  taken = taken + redis.call('ZADD', running, now + lease_ms, turn_id)
  redis.call('SET', sum, summed(taken, others + tokens, others_cost + nanos), 'EX', ttl)
  redis.call('EXPIRE', running, ttl)
else
  redis.call('HSET', reserved, turn_id, '-')
end
redis.call('EXPIRE', reserved, ttl)
if kept then
  kept.touch(session_id, now + lives * 1000)
  -- An hour: longer than turns run. Who settles it takes it off.
  kept.put('/' .. turn_id, adds, now + 3600000)
  kept.keep()
end
return {'OK', granted}
