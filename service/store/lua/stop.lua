-- stop: note the user's wish; the owner sees it with its next append or renewal.
--
-- KEYS: turn
-- ARGV: none
-- Returns {state, owner, lease ms left} | {} when there is no such turn
local held = redis.call('HMGET', turn, 'state', 'owner', 'lease')
if not held[1] then return {} end
if held[1] == 'running' or held[1] == 'queued' then redis.call('HSET', turn, 'stop', '1') end
local time = redis.call('TIME')
return {held[1], held[2], tonumber(held[3]) - (time[1] * 1000 + math.floor(time[2] / 1000))}
