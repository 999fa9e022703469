-- free_session: a session holds nothing for a turn that is gone (evicted, expired, lost in a failover) or has
-- ended; a turn that is neither is only looked at.
--
-- KEYS: session, turn, queue, idem (the idempotency entry)
-- ARGV: turn_id str
-- Returns {FREED, id of the queued turn whose time has come or ''} | {NOTHING} (nothing pointed to it) |
--         {HELD} | {ABANDONED} (its lease has lapsed, or its time in the queue has come)
-- include next_turn
local held = redis.call('HMGET', turn, 'state', 'lease')
local active = redis.call('HGET', session, 'active') == turn_id
if held[1] == 'running' or held[1] == 'queued' then
  local time = redis.call('TIME')
  local lapsed = tonumber(held[2]) <= time[1] * 1000 + math.floor(time[2] / 1000)
  return {lapsed and active and 'ABANDONED' or 'HELD'}
end
local pointed = redis.call('LREM', queue, 0, turn_id) > 0 or active
if not held[1] and redis.call('HGET', idem, 'turn') == turn_id then
  redis.call('DEL', idem)
  pointed = true
end
local following = ''
if active then
  following = next_turn(session, queue)
  redis.call('PUBLISH', session, 1)  -- for whoever has it open
end
return pointed and {'FREED', following} or {'NOTHING'}
