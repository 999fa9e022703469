-- pace: what one worker has learned of the provider's limits for a model, and what it wants to
-- call now. Limits are buckets that refill evenly, as the provider keeps them; a call takes its
-- prompt and its whole completion limit, and what it did not use comes back with a report.
--
-- KEYS: pace
-- ARGV: report str
-- `report` is JSON: {worker, ttl, period: {kind: ms}, hold, cold, probes, near, keep, per_call, calls, ended,
--         heard                                  calls that were answered or have failed
--         back: {requests, prompt, completion}   calls that have ended: what they did not use
--         heads: [{at, level, out, cost, limit, left, requests_limit, requests_left, unused}]   of answers
--                                                unused: tokens of this call that are in `back` too
--         refusals: [{kind, limit, requested, wait, prompt, completion}]   429s, 413s (wait 0)
--         asks: [{prompt, completion, waited}]}  calls that wait, in their order; for how long their
--                                                principals had no turn
-- Returns JSON {now, known, granted: [[level, out]], wait, best, blocked, roomy,
--         buckets: {kind: {limit, level}}}
--         level of tpm (-1 unknown) and tokens out after each call that may go now; times in ms;
--         roomy: half of everything is left, and a worker may take a little before it asks
-- `wait` is for the first call that may not go, `best` if all calls under way use nothing. The call
-- of all workers whose principal has waited longest is kept
-- room for (`want`), so that small calls cannot starve a large one.
local given = cjson.decode(report)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local flat = redis.call('HGETALL', pace)
local state = {}
for i = 1, #flat, 2 do state[flat[i]] = tonumber(flat[i + 1]) or flat[i + 1] end

local buckets = {}
for kind, period in pairs(given.period) do
  local limit = state[kind .. '.limit']
  local ends = state[kind .. '.until']
  if limit and not (ends and ends < now) then
    local level = state[kind .. '.level'] + (now - state.at) * limit / period
    buckets[kind] = {limit = limit, level = math.min(limit, level)}
  end
end
local function cost(kind, call)
  if kind == 'rpm' or kind == 'rpd' then return 1 end
  if kind == 'itpm' then return call.prompt end
  if kind == 'otpm' then return call.completion end
  return call.prompt + call.completion
end

-- Calls of about the last minute and day, to judge whether a refusal can be true.
local age = state.at and now - state.at or 0
for _, period in ipairs({'rpm', 'rpd'}) do
  local name = period .. '.calls'
  state[name] = (state[name] or 0) * math.max(0, 1 - age / given.period[period]) + given.calls
end
local function plausible(refusal)
  local calls = state[refusal.kind .. '.calls']
  if calls then return 2 * calls >= refusal.limit end
  local asked = cost(refusal.kind, refusal)
  return refusal.requested and math.abs(refusal.requested - asked) <= math.max(50, asked / 4)
end

-- Tokens reserved by calls under way; those of a dead worker fade away within a minute.
local fading = math.max(0, 1 - age / given.period.tpm)
state.out = math.max(0, (state.out or 0) * fading - given.ended)
state.blind = (state.blind or 0) * fading  -- of these, let go before the limit was known
state.unheard = math.max(0, (state.unheard or 0) * fading - given.heard)  -- calls not yet answered

-- 1. What is learned.
for kind, bucket in pairs(buckets) do
  local back = (kind == 'rpm' or kind == 'rpd') and given.back.requests or cost(kind, given.back)
  bucket.level = math.min(bucket.limit, bucket.level + back)
end
-- What the head of an answer says was so before its call gave back what it had not used.
local unused = 0
for _, head in ipairs(given.heads) do unused = unused + (head.unused or 0) end
for _, head in ipairs(given.heads) do
  state.known = 1
  local tpm = buckets.tpm
  if head.level < 0 then state.blind = math.max(0, state.blind - head.cost) end
  if head.limit and head.left then
    state['tpm.until'] = nil
    if head.left >= head.limit then
      buckets.tpm = nil  -- full after a call that it has just let in: it is not counted
    elseif not tpm or tpm.limit ~= head.limit then
      -- Those let go with it may be on their way still.
      local level = math.min(head.limit, head.left + unused - state.blind)
      buckets.tpm = {limit = head.limit, level = tpm and math.min(tpm.level, level) or level}
      state.corrected = now
    elseif head.level < 0 then
      tpm.level = math.min(tpm.level, head.left + unused)
    elseif head.at > (state.corrected or 0) then
      -- One correction per round trip. The provider may have got back what was not yet reported
      -- then: only what all calls under way together cannot explain is more than was thought.
      local off = head.left - head.level
      tpm.level = math.min(tpm.limit, tpm.level + math.min(off, math.max(0, off - head.out)))
      state.corrected = now
    end
  end
  if head.requests_limit and head.requests_left then
    -- A day's requests are kept count of near their end only.
    state['rpd.until'] = nil
    if head.requests_left < given.near then
      buckets.rpd = {limit = head.requests_limit, level = head.requests_left}
    else
      buckets.rpd = nil
    end
  end
end
for _, refusal in ipairs(given.refusals) do
  local period = given.period[refusal.kind]
  if period and refusal.limit and plausible(refusal) then
    local level = cost(refusal.kind, refusal) - refusal.wait * refusal.limit / period
    local known = buckets[refusal.kind]
    if refusal.wait == 0 then level = refusal.limit end
    if known and known.limit == refusal.limit then level = math.min(level, known.level) end
    buckets[refusal.kind] = {limit = refusal.limit, level = level}
    state[refusal.kind .. '.until'] = now + math.max(given.keep, 2 * refusal.wait)
    state.known, state.corrected = 1, now
  else
    -- Something that our own calls do not explain: back off, then feel the way again.
    state.blocked = math.max(state.blocked or 0, now + refusal.wait)
    state.known, state.cold, state.probing = nil, nil, nil
  end
end

-- 2. Who may call.
local granted, wait, best = {}, 0, 0
-- Requests per minute are limited where tokens are, by how many no header tells. Beyond what the
-- tokens would allow even of large calls, only so few are unanswered at once that a refusal, when
-- it comes, meets 2 in 100: no bound for a steady rate whose answers take less than 1.2 s to begin.
local calls = state['rpm.calls']
local function unknown_requests(share)
  return buckets.tpm and not buckets.rpm and calls >= share * buckets.tpm.limit / given.per_call
end
local function feels_requests()
  return unknown_requests(1)
    and state.unheard > math.max(1, calls / 50) - 0.5 and now - (state.let_go or 0) < given.cold
end
local wanted = state.want_until and state.want_until > now and tostring(state.want_worker) ~= given.worker
for i, call in ipairs(given.asks) do
  local blocked = math.max(0, (state.blocked or 0) - now)
  local missing = blocked
  local feeling = not state.known and missing == 0
  if feeling then
    -- Nothing is known yet: a few go ahead, the others wait for what these learn, but not for long.
    state.cold = state.cold or now
    if (state.probing or 0) >= given.probes and now - state.cold < given.cold then missing = given.cold / 50 end
  end
  if feels_requests() then missing = math.max(missing, given.cold / 50) end
  local first = wanted and state.want_since < now - call.waited
  local lacking, hopeful, too_large = 0, 0, false
  for kind, bucket in pairs(buckets) do
    local needed = cost(kind, call)
    too_large = too_large or needed > bucket.limit  -- no waiting helps: the provider says so to the caller
    if first then
      needed = needed + cost(kind, {prompt = state.want_prompt, completion = state.want_completion})
    end
    local per_token = given.period[kind] / bucket.limit
    local back = (kind == 'rpm' or kind == 'rpd') and 0 or state.out
    lacking = math.max(lacking, (needed - bucket.level) * per_token)
    hopeful = math.max(hopeful, (needed - bucket.level - back) * per_token)
  end
  if not too_large then missing = math.max(missing, lacking) end
  if missing > 0 then
    wait, best = math.max(1, math.ceil(missing)), math.ceil(math.max(blocked, hopeful))
    if not wanted or state.want_since > now - call.waited then
      state.want_worker, state.want_since, state.want_until = given.worker, now - call.waited, now + given.hold
      state.want_prompt, state.want_completion = call.prompt, call.completion
    end
    break
  end
  state.out = state.out + call.prompt + call.completion
  state.unheard, calls, state.let_go = state.unheard + 1, calls + 1, now
  if not buckets.tpm then state.blind = state.blind + call.prompt + call.completion end
  if feeling then state.probing = (state.probing or 0) + 1 end
  if not too_large then
    for kind, bucket in pairs(buckets) do bucket.level = bucket.level - cost(kind, call) end
  end
  granted[i] = {buckets.tpm and buckets.tpm.level or -1, state.out}
end
if wait == 0 and tostring(state.want_worker) == given.worker then state.want_until = 0 end

local roomy = state.known and wait == 0 and not wanted and not unknown_requests(0.5)
for _, bucket in pairs(buckets) do roomy = roomy and bucket.level >= bucket.limit / 2 end

-- 3. What is kept.
local fields = {}
local function keep(name, value)
  if value then
    fields[#fields + 1] = name
    fields[#fields + 1] = type(value) == 'number' and string.format('%.3f', value) or value
  end
end
keep('at', now)
for _, name in ipairs({'known', 'corrected', 'blocked', 'cold', 'probing', 'rpm.calls', 'rpd.calls', 'out', 'blind', 'unheard', 'let_go',
    'want_worker', 'want_since', 'want_until', 'want_prompt', 'want_completion'}) do
  keep(name, state[name])
end
for kind, bucket in pairs(buckets) do
  keep(kind .. '.limit', bucket.limit)
  keep(kind .. '.level', bucket.level)
  keep(kind .. '.until', state[kind .. '.until'])
end
redis.call('DEL', pace)
redis.call('HSET', pace, unpack(fields))
redis.call('EXPIRE', pace, given.ttl)

return cjson.encode({
  now = now, known = state.known and true or false, granted = granted, wait = wait, best = best,
  blocked = math.max(0, (state.blocked or 0) - now), roomy = roomy and true or false, buckets = buckets,
})
