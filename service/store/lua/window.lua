-- window: the newest messages of a session below a position, as many as may be of use.
--
-- KEYS  1 order  2 messages
-- ARGV  1 position  2 most messages  3 bytes: the message that goes beyond them is the last one
-- Returns {1 when older messages are left, position, JSON, position, JSON, ...}, newest first
local order, messages = KEYS[1], KEYS[2]
local most, left = tonumber(ARGV[2]), tonumber(ARGV[3])
local found, below = {0}, ARGV[1]
while true do
  local ids = redis.call('ZREVRANGEBYSCORE', order, '(' .. below, '-inf', 'WITHSCORES', 'LIMIT', 0, 16)
  if #ids == 0 then return found end
  for i = 1, #ids, 2 do
    local message = redis.call('HGET', messages, ids[i])
    below = ids[i + 1]
    if message then
      if most == 0 or left < 0 then
        found[1] = 1
        return found
      end
      found[#found + 1] = below
      found[#found + 1] = message
      most, left = most - 1, left - #message
    end
  end
end
