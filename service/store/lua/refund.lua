-- refund: give back the place in every window that one send has taken and not used.
-- Exactly once: with the send's mark, which goes too. A mark of another send, or none, changes nothing.
--
-- KEYS  1 mark of the send  2... a window each
-- ARGV  1 who has taken it  2 shape of the windows: fixed | moving
-- Returns 1 given back | 0 not: another has taken it, or its turn has begun
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
for i = 2, #KEYS do
  if ARGV[2] == 'moving' then
    redis.call('RPOP', KEYS[i])
  elseif tonumber(redis.call('GET', KEYS[i]) or 0) > 0 then
    redis.call('DECR', KEYS[i])
  end
end
return 1
