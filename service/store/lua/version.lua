-- version: what an edit or a regenerate has cut off a history. Not called by itself: other scripts include it
-- as a function that returns what is to be done with it.
--
-- Takes: session, order, messages
--
-- A version is what stood from its place on: `<ms of the cut>\n`, then `<position> <bytes of id> <bytes of
-- body>\n<id><body>` for each message. It lies beside the messages, in a field that begins with a byte which no
-- message's id can hold. The session's field `versions` names them, oldest first: `<id> <place> <what was before
-- it> <bytes>,`. A version is shown where the same message is before its place as was then.
--
-- `gone`: what was cut off is, in part or as the oldest of many, in no version any more.
local versions = {gone = false}
local MOST_MESSAGES, MOST_BYTES, OWN_BYTES = 200, 262144, 200

local function field(id) return '\1' .. id end

local function write(entries)
  local lines = {}
  for i, entry in ipairs(entries) do lines[i] = table.concat(entry, ' ') .. ',' end
  if #lines == 0 then
    redis.call('HDEL', session, 'versions')
  else
    redis.call('HSET', session, 'versions', table.concat(lines))
  end
end

-- Each is {id, place, what was before it, bytes}.
function versions.all()
  local entries = {}
  for id, place, mark, bytes in
    string.gmatch(redis.call('HGET', session, 'versions') or '', '([^ ,]+) ([^ ]+) ([^ ]+) ([^,]+),')
  do
    entries[#entries + 1] = {id, place, mark, bytes}
  end
  return entries
end

-- Twice 31 bits, of primes whose products are whole numbers in Lua. (The store in memory has no redis.sha1hex.)
local function checksum(text)
  local first, second = 1, 1
  for i = 1, #text do
    local byte = string.byte(text, i)
    first, second = (first * 257 + byte) % 2147483647, (second * 263 + byte) % 2147483629
  end
  return string.format('%.0f-%.0f', first, second)
end

-- What is before a place: an edit changes it, for its body begins and ends with who wrote it when.
function versions.mark(place)
  local before = redis.call('ZREVRANGEBYSCORE', order, '(' .. place, '-inf', 'LIMIT', 0, 1)[1]
  if not before then return '-' end
  local body = redis.call('HGET', messages, before) or ''
  return checksum(before .. string.sub(body, 1, 256) .. string.sub(body, -256))
end

function versions.body(id) return redis.call('HGET', messages, field(id)) end

-- Take one off. Returns how many bytes that frees.
function versions.drop(entries, i)
  local entry = table.remove(entries, i)
  redis.call('HDEL', messages, field(entry[1]))
  write(entries)
  return tonumber(entry[4])
end

-- Does all that stands from a place on fit into a version?
function versions.fits(place)
  local found = redis.call('ZRANGEBYSCORE', order, place, '+inf', 'LIMIT', 0, MOST_MESSAGES + 1)
  local size = 0
  for _, id in ipairs(found) do size = size + redis.call('HSTRLEN', messages, id) end
  return #found <= MOST_MESSAGES and size <= MOST_BYTES
end

-- Keep what stands from a place on, as far as it fits; the oldest versions go. Returns how many bytes more.
function versions.keep(place, most, now)
  if most <= 0 then
    versions.gone = true
    return 0
  end
  local parts, size = {string.format('%.0f\n', now)}, 0
  local found = redis.call('ZRANGEBYSCORE', order, place, '+inf', 'WITHSCORES', 'LIMIT', 0, MOST_MESSAGES)
  for i = 1, #found, 2 do
    local body = redis.call('HGET', messages, found[i]) or ''
    size = size + #body
    if size > MOST_BYTES then
      versions.gone = true
      break
    end
    parts[#parts + 1] = string.format('%s %d %d\n', found[i + 1], #found[i], #body) .. found[i] .. body
  end
  versions.gone = versions.gone or redis.call('ZCOUNT', order, place, '+inf') > MOST_MESSAGES
  if #parts == 1 then return 0 end
  local packed = table.concat(parts)
  local id = 'v_' .. redis.call('HINCRBY', session, 'versions_made', 1)
  local bytes = #packed + OWN_BYTES
  redis.call('HSET', messages, field(id), packed)
  local entries = versions.all()
  entries[#entries + 1] = {id, place, versions.mark(place), bytes}
  while #entries > most do
    bytes = bytes - versions.drop(entries, 1)
    versions.gone = true
  end
  write(entries)
  return bytes
end

return versions
