-- delete_session: the keys of a session, those of its turns apart, unless something began meanwhile.
--
-- KEYS: session, order, messages, turns, queue
-- ARGV: known int (turns the caller knows)
-- Returns 1 deleted | 0 a turn has begun meanwhile, or is running: stop it and ask again
if redis.call('HEXISTS', session, 'active') == 1 then return 0 end
if redis.call('LLEN', turns) ~= known then return 0 end
for _, key in ipairs({session, order, messages, turns, queue}) do redis.call('UNLINK', key) end
redis.call('PUBLISH', session, 1)  -- for whoever has it open
return 1
