-- title_session: a title for a session that has none, once; what a person has called it stays.
--
-- KEYS: session
-- ARGV: turn_id str (after whose answer), title str ('' asks whether it is this turn's to find one)
-- Returns 1 it is, or it is set | 0 it has a title or no name, was asked before, or is gone
if redis.call('HGET', session, 'named') ~= '1' or redis.call('HEXISTS', session, 'title') == 1 then return 0 end
if title == '' then return redis.call('HSETNX', session, 'titled', turn_id) end
redis.call('HSET', session, 'title', title)
redis.call('PUBLISH', session, 1)  -- for whoever has it open
return 1
