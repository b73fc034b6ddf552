-- The common beginning of all scripts on assignments.
-- KEYS[1] assignments (hash: video → JSON), KEYS[2] assignments:state (hash: format, epoch, version, term, holder,
-- beat, lease, epoch:server, term:server), in scripts on orders KEYS[3] assignments:cordons (hash: reader → JSON)
-- The last of ARGV: the greatest epoch or term that can have been minted by the caller's clock.
local function text(number)
  return string.format('%.0f', number)
end

local function micros()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000000 + tonumber(now[2])
end

-- The same bound by the server's clock, as in core/src/epoch.rs. The later one holds, so that a clock that fell behind
-- makes no valid number implausible.
local latest = math.max(tonumber(ARGV[#ARGV]), micros() + 2592000000000)

-- Whether an epoch or term can have been minted. An implausible one, which another release stored, counts as absent,
-- and the next one that is minted replaces it.
local function is_plausible(number)
  return number and tonumber(number) and tonumber(number) <= latest
end

local function counter(name)
  local stored = redis.call('HGET', KEYS[2], name)
  return is_plausible(stored) and stored or '0'
end

-- Returns the assignment of a video as JSON, and its epoch; nil and '' if there is none.
local function assigned(video)
  local current = redis.call('HGET', KEYS[1], video)
  local epoch = current and cjson.decode(current).epoch
  if not is_plausible(epoch) then return nil, '' end
  return current, text(epoch)
end

-- Mints the next epoch or term, as mint() in core/src/epoch.rs does. `name` is the counter's field, `seen` the highest
-- number that the caller knows. 2^52 is half of the greatest number.
local function mint(name, seen)
  local counted = tonumber(counter(name))
  local next = math.max(counted, tonumber(seen), math.min(micros(), 4503599627370496)) + 1
  local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or '00'
  local is_other = redis.call('HGET', KEYS[2], name .. ':server') ~= server
  if is_other then redis.call('HSET', KEYS[2], name .. ':server', server) end
  local jumped = next + (tonumber(string.sub(server, 1, 2), 16) + 1) * 60000000
  -- A number that was seen and not counted here was minted by another server, which may have minted more: jump ahead,
  -- but to no number that is implausible at a clock an hour behind. It would count as absent here, and the next one
  -- would go back.
  if is_other or tonumber(seen) > counted then next = math.max(next, math.min(jumped, latest - 3600000000)) end
  return text(next)
end

-- Returns the term in force if `term` is over, else nil. A term later than the stored one was lost here, and is
-- stored.
local function fence(term)
  local stored = counter('term')
  if tonumber(term) < tonumber(stored) then return stored end
  if tonumber(term) > tonumber(stored) then
    redis.call('HSET', KEYS[2], 'term', term, 'holder', '', 'beat', '0')
  end
end

-- Returns the planner's term ('' for none), holder, beat and lease ('' for none).
local function planner()
  local office = redis.call('HMGET', KEYS[2], 'term', 'holder', 'beat', 'lease')
  if not is_plausible(office[1]) then return {'', '', '0', office[4] or ''} end
  return {office[1], office[2] or '', office[3] or '0', office[4] or ''}
end

-- Returns the version. If there is none, or one that cannot be counted on from, it begins far above those of a store
-- that lost everything, so that nobody confuses the two.
local function version()
  local stored = redis.call('HGET', KEYS[2], 'version')
  if stored and string.match(stored, '^%d+$') and tonumber(stored) < 9007199254740991 then return stored end
  stored = text(micros())
  redis.call('HSET', KEYS[2], 'format', '1', 'version', stored)
  return stored
end

-- Counts a change and publishes it; `assignment` is JSON, nil if the assignment was removed.
local function tell(channel, video, assignment)
  version()
  local now = text(redis.call('HINCRBY', KEYS[2], 'version', 1))
  local told = '{"format":1,"version":' .. now .. ',"video":' .. cjson.encode(video)
  if assignment then told = told .. ',"assignment":' .. assignment end
  -- Only on a cluster do our names have a brace, that of their hash tag.
  redis.call(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, told .. '}')
end
