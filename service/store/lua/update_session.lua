-- update_session: name an existing session and change fields of it; keeps it alive.
--
-- KEYS  1 session  2 order  3 messages  4 turns  5 queue
-- ARGV  1 ttl s  2... field, value, ... ('' removes the field)
-- Returns 1 done | 0 no such session
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'named', '1')
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end
return 1
