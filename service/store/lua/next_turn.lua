-- next_turn: the turn that a session was busy with is over: the next of its queue has its time, or it is free
-- (a function for other scripts, not called alone).
--
-- Takes: session, queue
-- Returns the id of the turn whose time has come, '' where none waits
local following = redis.call('LPOP', queue) or ''
if following == '' then
  redis.call('HDEL', session, 'active')
else
  redis.call('HSET', session, 'active', following)
end
return following
