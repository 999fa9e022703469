-- claim: become the owner of a turn whose lease has lapsed, or whose time in the queue has come.
-- The epoch rises and the claim is new, so that the owner before can write nothing any more; the epoch
-- alone would not do, since a failover can lose a claim, and the next one has the same epoch.
-- Where the store has another history than when the turn was claimed last, acknowledged events may
-- be lost: `last` is set to the id before a new life of the log, `kept` to what is left of the old one.
-- There a lease says nothing either: another server's clock gave it, and its owner may be about to renew it.
-- So it holds for as long as a lease from the first look in the new history (`graced`).
--
-- KEYS: turn, log, session
-- ARGV: owner str, lease_ms int, force flag (stop takes a turn from a living owner), log_ttl int (s),
--       claim str (a nonce), now_ms int (by the caller's clock)
-- Returns {CLAIMED, promoted 0|1, ms since the lease lapsed, owner before, field, value, ...} |
--         {LEASED, ms left} | {SEALED, field, value, ...} | {WAITING} (queued behind a running turn) | {GONE}
-- include replication_id
-- include next_life
local held = redis.call('HMGET', turn, 'state', 'lease', 'id', 'started', 'owner', 'history', 'last', 'created',
  'graced')
if not held[1] then return {'GONE'} end
if held[1] ~= 'running' and held[1] ~= 'queued' then
  return {'SEALED', unpack(redis.call('HGETALL', turn))}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local present = replication_id()
local promoted, last = '0', tonumber(held[7])
if held[1] == 'queued' and not force then
  if redis.call('HGET', session, 'active') ~= held[3] then return {'WAITING'} end
  redis.call('XADD', log, '1-0', 'e', held[4])
  redis.call('EXPIRE', log, log_ttl)
  redis.call('HSET', turn, 'state', 'running', 'last', '1', 'reader_at', now)
  redis.call('PUBLISH', log, 1)
  promoted, last = '1', 1
elseif not force then
  if (held[6] or present) ~= present and held[9] ~= present then
    redis.call('HSET', turn, 'graced', present, 'lease', now + lease_ms)
    return {'LEASED', lease_ms}
  end
  if tonumber(held[2]) > now then return {'LEASED', tonumber(held[2]) - now} end
end
if (held[6] or present) ~= present then
  -- A life in which nothing was written yet leaves nothing: what is left is still of the one before it.
  if (last + 1) % 1000000 ~= 0 then redis.call('HSET', turn, 'kept', last) end
  redis.call('HSET', turn, 'last', next_life(last, held[8], now_ms))
end
redis.call('EXPIRE', log, log_ttl)  -- a turn that was taken over lives longer than its first owner allowed for
redis.call('HINCRBY', turn, 'epoch', 1)
redis.call('HSET', turn, 'owner', owner, 'claim', claim, 'history', present, 'lease', now + lease_ms)
local lapsed = math.max(0, now - tonumber(held[2]))
return {'CLAIMED', promoted, lapsed, held[5], unpack(redis.call('HGETALL', turn))}
