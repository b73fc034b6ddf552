-- What all scripts on the boards begin with.
-- KEYS[1] projection (hash), KEYS[2] global_ranking, KEYS[3] trending (sorted sets), KEYS[4] owners (hash)
local live = {state = KEYS[1], global = KEYS[2], trending = KEYS[3], owners = KEYS[4]}

-- Below Lua's limit of arguments to one call, with room to spare.
local BATCH = 1000

local function text(number)
  return string.format('%.0f', number)
end

-- Tells subscribers. Only on a cluster our names have a brace: that of their hash tag.
local function tell(channel, message)
  redis.call(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, message)
end

-- Puts the entries in ARGV[from], … (id, owner, score, trending or '') on these boards where they are higher than what
-- is there. Answers the ones that changed anything, as JSON, as they stand now.
local function raise(boards, from)
  local changed = {}
  for start = from, #ARGV, 4 * BATCH do
    local ids = {}
    for at = start, math.min(start + 4 * BATCH, #ARGV + 1) - 1, 4 do
      ids[#ids + 1] = ARGV[at]
    end
    local scores = redis.call('ZMSCORE', boards.global, unpack(ids))
    local trends = redis.call('ZMSCORE', boards.trending, unpack(ids))
    local owners = redis.call('HMGET', boards.owners, unpack(ids))
    local up, hot, owned = {}, {}, {}
    for i, id in ipairs(ids) do
      local at = start + 4 * (i - 1)
      local owner, score, trend = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
      local news = false
      local was, now = scores[i] and tonumber(scores[i]), tonumber(score)
      if not was or now > was then
        up[#up + 1] = score
        up[#up + 1] = id
        news = true
      elseif now < was then
        -- An older batch than the one that stands there: its owner is older too.
        score, owner = scores[i], owners[i] or owner
      end
      if owner ~= owners[i] then
        owned[#owned + 1] = id
        owned[#owned + 1] = owner
        news = true
      end
      if trend ~= '' and (not trends[i] or tonumber(trend) > tonumber(trends[i])) then
        hot[#hot + 1] = trend
        hot[#hot + 1] = id
        news = true
      else
        trend = trends[i] or ''
      end
      if news then
        changed[#changed + 1] = '[' .. cjson.encode(id) .. ',' .. cjson.encode(owner)
          .. ',"' .. score .. '","' .. trend .. '"]'
      end
    end
    if #up > 0 then redis.call('ZADD', boards.global, 'GT', unpack(up)) end
    if #hot > 0 then redis.call('ZADD', boards.trending, 'GT', unpack(hot)) end
    if #owned > 0 then redis.call('HSET', boards.owners, unpack(owned)) end
  end
  return changed
end
