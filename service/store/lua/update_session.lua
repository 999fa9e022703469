-- update_session: name an existing session and change fields of it; keeps it alive.
--
-- KEYS: session, order, messages, turns, queue
-- ARGV: ttl int (s), fields str... (field, value, ...; '' removes the field)
-- Returns 1 done | 0 no such session
if redis.call('EXISTS', session) == 0 then return 0 end
redis.call('HSET', session, 'named', '1')
for i = 1, #fields, 2 do
  if fields[i + 1] == '' then
    redis.call('HDEL', session, fields[i])
  else
    redis.call('HSET', session, fields[i], fields[i + 1])
  end
end
for _, key in ipairs({session, order, messages, turns, queue}) do redis.call('EXPIRE', key, ttl) end
redis.call('PUBLISH', session, 1)  -- for whoever has it open
return 1
