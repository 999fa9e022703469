-- account: what a principal's sessions hold in Redis, by item. Not called by itself: other scripts include
-- it as a function that returns what is to be done with it.
--
-- Takes: sizes, ends, now (ms), ttl (s of both keys)
--
-- An item is a session (by its id), what a turn may add until it is settled (`/<turn id>`), or the logs that
-- end in one hour (`@<hour since 1970>`). Each has its bytes in `sizes` and its end in `ends`, so whatever
-- nobody takes off leaves by itself. `=` in `sizes` is the sum of bytes, `#` the number of sessions.
local account = {}

-- Take items off, all of them in few commands.
local function take_off(items)
  if #items == 0 then return end
  local bytes, sessions = 0, 0
  for i, size in ipairs(redis.call('HMGET', sizes, unpack(items))) do
    if size then
      bytes = bytes + size
      local kind = string.sub(items[i], 1, 1)
      if kind ~= '/' and kind ~= '@' then sessions = sessions + 1 end
    end
  end
  redis.call('HDEL', sizes, unpack(items))
  redis.call('ZREM', ends, unpack(items))
  if bytes ~= 0 then redis.call('HINCRBY', sizes, '=', -bytes) end
  if sessions ~= 0 then redis.call('HINCRBY', sizes, '#', -sessions) end
end

-- What has ended leaves; so many items at a time (500 take 0.3 ms).
local function prune(most)
  local ended = redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, most)
  take_off(ended)
  return #ended
end

function account.size(item) return tonumber(redis.call('HGET', sizes, item) or nil) end

function account.put(item, bytes, until_ms)
  local old = account.size(item)
  redis.call('HSET', sizes, item, bytes)
  redis.call('ZADD', ends, until_ms, item)
  if bytes ~= (old or 0) then redis.call('HINCRBY', sizes, '=', bytes - (old or 0)) end
  local kind = string.sub(item, 1, 1)
  if not old and kind ~= '/' and kind ~= '@' then redis.call('HINCRBY', sizes, '#', 1) end
end

-- A session that turns or calls are about to write to is there until `until_ms` at least.
function account.touch(session, until_ms)
  if not account.size(session) then
    account.put(session, 0, until_ms)
  else
    redis.call('ZADD', ends, 'GT', until_ms, session)
  end
end

function account.drop(...) take_off({...}) end

-- Logs by the hour in which they end; less where they are deleted before.
function account.logs(hour, bytes)
  local item = '@' .. hour
  local size = (account.size(item) or 0) + bytes
  if size > 0 then
    account.put(item, size, (hour + 1) * 3600000)
  else
    account.drop(item)
  end
end

-- Sessions and bytes.
function account.sums()
  local held = redis.call('HMGET', sizes, '#', '=')
  return tonumber(held[1] or 0), tonumber(held[2] or 0)
end

-- nil, or SESSIONS | BYTES where a session may not begin or `more` bytes may not come (0 = no bound).
function account.refuses(session, more, most_sessions, most_bytes)
  local new = account.size(session) == nil
  for _ = 1, 10 do
    local sessions, bytes = account.sums()
    local refusal = nil
    if new and most_sessions > 0 and sessions >= most_sessions then refusal = 'SESSIONS' end
    if more > 0 and most_bytes > 0 and bytes + more > most_bytes then refusal = 'BYTES' end
    -- What has ended and was not taken off yet must not be in the way.
    if not refusal or prune(500) == 0 then return refusal end
  end
  return 'BYTES'
end

-- All that has ended leaves now, up to 5,000 items (3 ms).
function account.prune()
  for _ = 1, 10 do
    if prune(500) == 0 then return end
  end
end

-- Called last: the keys end where nothing has touched them for as long as anything in them can last.
function account.keep()
  redis.call('EXPIRE', sizes, ttl)
  redis.call('EXPIRE', ends, ttl)
end

prune(100)
return account
