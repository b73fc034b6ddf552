-- What all scripts on assignments begin with.
-- KEYS[1] assignments (hash: video → JSON), KEYS[2] assignments:state (hash: format, epoch, version, term, holder, beat,
-- lease, epoch:server, term:server), KEYS[3], where orders are concerned: assignments:cordons (hash: reader → JSON)
-- The last of ARGV: the greatest epoch or term that can have been minted by the caller's clock.
local function text(number)
  return string.format('%.0f', number)
end

local function micros()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000000 + tonumber(now[2])
end

-- As core/src/epoch.rs has it; by the later of two clocks, so that a clock that fell behind makes nothing good look bad.
local latest = math.max(tonumber(ARGV[#ARGV]), micros() + 2592000000000)

-- Whether an epoch or term can have been minted. One that cannot was believed by another release: it is as if it were
-- not there, and the next one that is minted takes its place.
local function is_plausible(number)
  return number and tonumber(number) and tonumber(number) <= latest
end

local function counter(name)
  local stored = redis.call('HGET', KEYS[2], name)
  return is_plausible(stored) and stored or '0'
end

-- The assignment of a video as JSON, and its epoch; nil and '' where there is none.
local function assigned(video)
  local current = redis.call('HGET', KEYS[1], video)
  local epoch = current and cjson.decode(current).epoch
  if not is_plausible(epoch) then return nil, '' end
  return current, text(epoch)
end

-- The next epoch or term, as mint() in core/src/epoch.rs has it.
-- 2^52: half of the greatest. `name` is that of the counter's field.
local function mint(name, seen)
  local counted = tonumber(counter(name))
  local next = math.max(counted, tonumber(seen), math.min(micros(), 4503599627370496)) + 1
  local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or '00'
  local is_other = redis.call('HGET', KEYS[2], name .. ':server') ~= server
  if is_other then redis.call('HSET', KEYS[2], name .. ':server', server) end
  local jumped = next + (tonumber(string.sub(server, 1, 2), 16) + 1) * 60000000
  -- What is seen and was not counted here, another server minted, which may have minted more. Never beyond what can be.
  if is_other or (tonumber(seen) > counted and jumped <= latest) then next = jumped end
  return text(next)
end

-- The term in force where `term` is over, else nil. One that is later than the store's has been lost here.
local function fence(term)
  local stored = counter('term')
  if tonumber(term) < tonumber(stored) then return stored end
  if tonumber(term) > tonumber(stored) then
    redis.call('HSET', KEYS[2], 'term', term, 'holder', '', 'beat', '0')
  end
end

-- Who plans: term ('' for none), holder, beat and lease ('' for none).
local function planner()
  local office = redis.call('HMGET', KEYS[2], 'term', 'holder', 'beat', 'lease')
  if not is_plausible(office[1]) then return {'', '', '0', office[4] or ''} end
  return {office[1], office[2] or '', office[3] or '0', office[4] or ''}
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
