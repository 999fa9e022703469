-- window: the newest messages of a session below a position, as many as may be of use.
--
-- KEYS: order, messages
-- ARGV: below str (a position, or +inf), most int (messages),
--       most_bytes int (the message that goes beyond them is the last one)
-- Returns {1 when older messages are left, position, JSON, position, JSON, ...}, newest first
local found, left = {0}, most_bytes
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
