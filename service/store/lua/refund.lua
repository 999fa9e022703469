-- refund: give back the place in every window that one send has taken and not used.
-- Exactly once: with the send's mark, which goes too. A mark of another send, or none, changes nothing.
--
-- KEYS: mark (of the send), windows...
-- ARGV: by str (who has taken it), shape str (of the windows: fixed | moving)
-- Returns 1 given back | 0 not: another has taken it, or its turn has begun
if redis.call('GET', mark) ~= by then return 0 end
redis.call('DEL', mark)
for _, window in ipairs(windows) do
  if shape == 'moving' then
    redis.call('RPOP', window)
  elseif tonumber(redis.call('GET', window) or 0) > 0 then
    redis.call('DECR', window)
  end
end
return 1
