-- create_session: make the session unless it exists; either way it is named from now on, and all that it
-- has lives as long as a named one does.
--
-- KEYS: session, order, messages, turns, queue
-- ARGV: now_ms int, ttl int (s), fields str... (field, value, ...)
-- Returns 1 created | 0 there already
if redis.call('EXISTS', session) == 1 then
  redis.call('HSET', session, 'named', '1')
  for _, key in ipairs({session, order, messages, turns, queue}) do redis.call('EXPIRE', key, ttl) end
  return 0
end
redis.call('HSET', session, 'created', now_ms, 'updated', now_ms, 'named', '1', 'turns', '0', unpack(fields))
redis.call('EXPIRE', session, ttl)
return 1
