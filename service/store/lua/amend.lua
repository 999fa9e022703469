-- amend: messages of a session that no turn brings: one is changed or goes, others come behind all that are there.
--
-- KEYS: session, order, messages, turns, queue, idem (the idempotency entry)
-- ARGV: message_id str (of the one that is changed, '' = none), known int (bytes of its body as the caller
--       read it), body str (its new JSON, '' = it goes), newest flag (it has to be the newest), now_ms int,
--       ttl int (s), fingerprint str ('' = no key), result str (what a repeat is to know), idem_ttl int (s),
--       added str... (id, role, JSON, ...)
-- Returns DONE | NO_SESSION | BUSY | CHANGED (the message is not any more what the caller read, or the key is used)
if redis.call('EXISTS', session) == 0 then return 'NO_SESSION' end
if fingerprint ~= '' and redis.call('EXISTS', idem) == 1 then return 'CHANGED' end
if redis.call('HEXISTS', session, 'active') == 1 then return 'BUSY' end
local top = redis.call('ZREVRANGE', order, 0, 0, 'WITHSCORES')
if message_id ~= '' then
  if redis.call('HSTRLEN', messages, message_id) ~= known then return 'CHANGED' end
  if newest and top[1] ~= message_id then return 'CHANGED' end
elseif newest and top[1] then
  return 'CHANGED'
end

-- Counted as in begin.
local bytes = 0
if redis.call('HEXISTS', session, 'bytes') == 0 and redis.call('EXISTS', messages) == 1 then
  local measured = redis.pcall('MEMORY', 'USAGE', messages, 'SAMPLES', 0)
  bytes = type(measured) == 'number' and measured or 0
end
local function weight(id, size) return size + 2 * #id + 160 end
if message_id ~= '' and body == '' then
  redis.call('HDEL', messages, message_id)
  redis.call('ZREM', order, message_id)
  bytes = bytes - weight(message_id, known)
elseif message_id ~= '' then
  redis.call('HSET', messages, message_id, body)
  bytes = bytes + #body - known
end

-- A question has an even place, its answer the odd one behind it; whatever answers nothing has a slot of its own.
local place = tonumber(top[2] or '1')
local slot = math.max(tonumber(redis.call('HGET', session, 'seq') or '0'), math.floor(place / 2))
for i = 1, #added, 3 do
  if added[i + 1] == 'assistant' and place % 2 == 0 then
    place = place + 1
  else
    slot = slot + 1
    place = added[i + 1] == 'user' and 2 * slot or 2 * slot + 1
  end
  redis.call('ZADD', order, place, added[i])
  redis.call('HSET', messages, added[i], added[i + 2])
  bytes = bytes + weight(added[i], #added[i + 2])
end
redis.call('HSET', session, 'seq', slot, 'named', '1', 'updated', now_ms)
redis.call('HINCRBY', session, 'bytes', bytes)
if fingerprint ~= '' then
  -- As the key of a send, but of no turn. The session names it, to be deleted with it; of many the newest.
  redis.call('HSET', idem, 'turn', '-', 'fingerprint', fingerprint, 'result', result)
  redis.call('EXPIRE', idem, idem_ttl)
  local named = (redis.call('HGET', session, 'keyed') or '') .. idem .. '\n'
  if #named > 8192 then named = string.sub(named, string.find(named, '\n', 1, true) + 1) end
  redis.call('HSET', session, 'keyed', named)
  redis.call('HINCRBY', session, 'bytes', 300)  -- as a send's key in seal
end
for _, key in ipairs({session, order, messages, turns, queue}) do redis.call('EXPIRE', key, ttl) end
redis.call('PUBLISH', session, 1)  -- for whoever has it open
return 'DONE'
