-- delete_session: the keys of a session, those of its turns apart, unless something began meanwhile.
--
-- KEYS  1 session  2 turns  3... every other key of the session
-- ARGV  1 number of turns the caller knows
-- Returns 1 deleted | 0 a turn has begun meanwhile, or is running: stop it and ask again
if redis.call('HEXISTS', KEYS[1], 'active') == 1 then return 0 end
if redis.call('LLEN', KEYS[2]) ~= tonumber(ARGV[1]) then return 0 end
for _, key in ipairs(KEYS) do redis.call('UNLINK', key) end
return 1
