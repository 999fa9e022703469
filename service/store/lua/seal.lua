-- seal: the last events with the terminal one, the assistant's message, the usage and the next
-- queued turn's right to run, atomically and once.
--
-- KEYS: turn, log, log_copy (for a moment), session, order, messages, queue, idem (the idempotency entry)
-- ARGV: epoch int, claim str, first int (id of the first event, 0 = the first of a new life of the log),
--       state str, answer_id str, answer str (JSON, '' = no text), session_ttl int (s), ephemeral_ttl int (s),
--       log_ttl int (s), frees_key flag (the idempotency key), now_ms int,
--       fields str... (field, value, ... of the turn), payloads str... (the last is terminal)
-- Returns {SEALED, next turn id or '', id of the terminal event, stored} | {FENCED} | {GONE} |
--         {LOST} (the log has not all that comes before the first event: nothing was written)
-- A repeat by the sealer answers SEALED again. `stored`, also a field of the turn, is what its principal's
-- account is told: `<bytes of the session> <s it lives> <bytes of the log> <hour since 1970 in which that
-- ends> <updated>`; '' where the session is gone.
-- include next_life
-- include next_turn
local held = redis.call('HMGET', turn, 'epoch', 'state', 'last', 'pos', 'id', 'created', 'claim', 'stored', 'user')
if not held[1] then return {'GONE'} end
if tonumber(held[1]) ~= epoch or (held[7] or '') ~= claim then return {'FENCED'} end
local n, last = first, tonumber(held[3])
if held[2] ~= 'running' and held[2] ~= 'queued' then
  return held[2] == state and {'SEALED', '', last, held[8] or ''} or {'FENCED'}
end

if n == 0 then
  if (last + 1) % 1000000 ~= 0 then  -- as in claim
    fields[#fields + 1], fields[#fields + 2] = 'kept', last
  end
  last = next_life(last, held[6], now_ms)
  n = last + 1
elseif n > last + 1 or (last >= 1 and redis.call('EXISTS', log) == 0) then
  return {'LOST'}
end
for _, payload in ipairs(payloads) do
  if n > last then
    redis.call('XADD', log, string.format('%.0f-0', n), 'e', payload)
    last = n
  end
  n = n + 1
end
redis.call('HSET', turn, 'state', state, 'lease', '0', 'last', last, unpack(fields))
-- Only a turn that still runs needs what it was asked with; whole prompts and tools are in there.
redis.call('HDEL', turn, 'params', 'started')
redis.call('EXPIRE', log, log_ttl)
-- A stream's newest node keeps 4 KiB for what is to come; in a copy it has what it needs.
if redis.call('COPY', log, log_copy, 'REPLACE') == 1 then redis.call('RENAME', log_copy, log) end
local asked = frees_key and redis.call('HGET', idem, 'fingerprint')
if frees_key then redis.call('DEL', idem) end

local function usage(key)
  local bytes = redis.pcall('MEMORY', 'USAGE', key)
  return type(bytes) == 'number' and bytes or 1024  -- where Redis does not say (no right to, another kind)
end
local following, stored = '', ''
local was = redis.call('HMGET', session, 'created', 'named', 'active', 'bytes')
if was[1] then  -- every session has that field
  -- A repeat of this send takes the place of its question (begin).
  if asked then redis.call('HSET', session, 'freed', idem .. ' ' .. asked .. ' ' .. (held[9] or '')) end
  local bytes = tonumber(was[4] or nil)
  if not bytes then  -- begun by a worker that did not count, as in begin
    local measured = redis.pcall('MEMORY', 'USAGE', messages, 'SAMPLES', 0)
    bytes = type(measured) == 'number' and measured or 0
  end
  -- Is the question still in the history? An edit may have dropped it, a delete has.
  if answer ~= '' and redis.call('ZCOUNT', order, held[4] - 1, held[4] - 1) == 1 then
    -- An answer that goes on is there already.
    bytes = bytes + redis.call('ZADD', order, held[4], answer_id) * (2 * #answer_id + 160)  -- as in begin
    bytes = bytes + #answer - redis.call('HSTRLEN', messages, answer_id)
    redis.call('HSET', messages, answer_id, answer)
  end
  if was[3] == held[5] then
    following = next_turn(session, queue)
    if following ~= '' then redis.call('EXPIRE', queue, was[2] == '1' and session_ttl or ephemeral_ttl) end
  else
    redis.call('LREM', queue, 0, held[5])
  end
  local named = was[2] == '1'
  local ttl = named and session_ttl or ephemeral_ttl
  for _, key in ipairs({session, order, messages}) do redis.call('EXPIRE', key, ttl) end
  redis.call('EXPIRE', turn, math.max(ttl, log_ttl))

  -- The turn ends with a session that has a name, else with its log. 300: the idempotency key, in its day.
  local kept, logs = usage(turn), usage(log) + 300
  if named then bytes = bytes + kept else logs = logs + kept end
  redis.call('HSET', session, 'updated', now_ms, 'bytes', bytes)
  bytes = bytes + 1000  -- of the session itself
  for _, name in ipairs({'system_prompt', 'title', 'metadata'}) do
    bytes = bytes + redis.call('HSTRLEN', session, name)
  end
  local hour = math.floor((redis.call('TIME')[1] + log_ttl) / 3600)
  stored = string.format('%.0f %.0f %.0f %.0f %.0f', bytes, ttl, logs, hour, now_ms)
  redis.call('HSET', turn, 'stored', stored)
end
redis.call('PUBLISH', session, 1)  -- for whoever has it open
redis.call('PUBLISH', log, last)
return {'SEALED', following, last, stored}
