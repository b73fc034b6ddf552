-- What all scripts on assignments begin with.
-- KEYS[1] assignments (hash: video → JSON), KEYS[2] assignments:state (hash: format, epoch, version)
local function text(number)
  return string.format('%.0f', number)
end

-- The version, begun where there is none: far above those of a store that lost everything, so that nobody takes its
-- versions for those.
local function version()
  local stored = redis.call('HGET', KEYS[2], 'version')
  if stored then return stored end
  local now = redis.call('TIME')
  stored = text(tonumber(now[1]) * 1000000 + tonumber(now[2]))
  redis.call('HSET', KEYS[2], 'format', '1', 'version', stored)
  return stored
end

-- Counts a change and tells subscribers; `assignment` is JSON, absent where it was removed.
local function tell(channel, video, assignment)
  version()
  local now = text(redis.call('HINCRBY', KEYS[2], 'version', 1))
  local told = '{"format":1,"version":' .. now .. ',"video":' .. cjson.encode(video)
  if assignment then told = told .. ',"assignment":' .. assignment end
  -- Only on a cluster our names have a brace: that of their hash tag.
  redis.call(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, told .. '}')
end
