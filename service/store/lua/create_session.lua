-- create_session: make the session unless it exists; either way it is named from now on, and all that it
-- has lives as long as a named one does.
--
-- KEYS  1 session  2 order  3 messages  4 turns  5 queue
-- ARGV  1 now ms  2 ttl s  3... field, value, ...
-- Returns 1 created | 0 there already
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'named', '1')
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[2]) end
  return 0
end
redis.call('HSET', KEYS[1], 'created', ARGV[1], 'updated', ARGV[1], 'named', '1', 'turns', '0',
  unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
