-- What all scripts on assignments begin with.
-- KEYS[1] assignments (hash: video → JSON), KEYS[2] assignments:state (hash: format, epoch, version, term, holder, beat,
-- lease, epoch:server, term:server), KEYS[3], where orders are concerned: assignments:cordons (hash: reader → JSON)
local function text(number)
  return string.format('%.0f', number)
end

local function micros()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000000 + tonumber(now[2])
end

-- The next epoch or term, as mint() in assignment_store.rs has it, and ahead on another server process (redis.rs).
-- 2^52: half of the greatest. `counter` is the name of its field.
local function mint(counter, seen)
  local stored = redis.call('HGET', KEYS[2], counter) or '0'
  local next = math.max(tonumber(stored), tonumber(seen), math.min(micros(), 4503599627370496)) + 1
  local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or '00'
  if redis.call('HGET', KEYS[2], counter .. ':server') ~= server then
    redis.call('HSET', KEYS[2], counter .. ':server', server)
    next = next + (tonumber(string.sub(server, 1, 2), 16) + 1) * 60000000
  end
  return text(next)
end

-- The term in force where `term` is over, else nil. One that is later than the store's has been lost here.
local function fence(term)
  local stored = redis.call('HGET', KEYS[2], 'term') or '0'
  if tonumber(term) < tonumber(stored) then return stored end
  if tonumber(term) > tonumber(stored) then
    redis.call('HSET', KEYS[2], 'term', term, 'holder', '', 'beat', '0')
  end
end

-- Who plans: term ('' for none), holder, beat and lease ('' for none).
local function planner()
  local office = redis.call('HMGET', KEYS[2], 'term', 'holder', 'beat', 'lease')
  return {office[1] or '', office[2] or '', office[3] or '0', office[4] or ''}
end

-- The version, begun where there is none: far above those of a store that lost everything, so that nobody takes its
-- versions for those.
local function version()
  local stored = redis.call('HGET', KEYS[2], 'version')
  if stored then return stored end
  stored = text(micros())
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
