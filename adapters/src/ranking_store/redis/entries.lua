-- The common beginning of all scripts on boards.
-- KEYS[1] projection (hash), KEYS[2] global_ranking, KEYS[3] trending (sorted sets), KEYS[4] owners, KEYS[5] revisions (hashes)
local live = {state = KEYS[1], global = KEYS[2], trending = KEYS[3], owners = KEYS[4], revisions = KEYS[5]}

-- The canary video (core/src/canary.rs): it is on no board, but its changes are published.
local CANARY = 'liverank:canary'

-- Entries per call: their arguments are well below Lua's limit for one call.
local BATCH = 1000
-- Arguments of an entry in ARGV.
local SIZE = 5

local function text(number)
  return string.format('%.0f', number)
end

-- Publishes a message. Only on a cluster do our names have a brace, that of their hash tag.
local function tell(channel, message)
  redis.call(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, message)
end

-- Drops revisions of another generation: a release without revisions may have put this generation in force.
local function begin_revisions(boards, generation)
  if redis.call('HGET', boards.state, 'revisions') ~= generation then
    redis.call('UNLINK', boards.revisions)
    redis.call('HSET', boards.state, 'revisions', generation)
  end
end

-- Whether an entry is at least as late as the stored one.
local function is_later(revision, noted, score, stands)
  if noted then return tonumber(revision) >= tonumber(noted) end
  -- A release without revisions stored the score: for such a release a greater score is a later one.
  return score == '' or not stands or tonumber(score) >= tonumber(stands)
end

local function differs(now, was)
  if not was then return now ~= '' end
  return now == '' or tonumber(now) ~= tonumber(was)
end

-- Puts the entries in ARGV[from], … (id, owner, score, trending or '', revision) on these boards unless a later
-- revision is stored. An entry without a score takes the video off; its revision stays, so that an earlier entry does
-- not bring the video back. A video that is on no board and below the line of idle videos is not brought back.
-- Returns the entries that changed anything as JSON, and their revisions.
local function put(boards, from)
  local changed, revisions = {}, {}
  local line = redis.call('HGET', boards.state, 'line')
  line = line and tonumber(line)
  for start = from, #ARGV, SIZE * BATCH do
    local ids = {}
    for at = start, math.min(start + SIZE * BATCH, #ARGV + 1) - 1, SIZE do
      ids[#ids + 1] = ARGV[at]
    end
    local scores = redis.call('ZMSCORE', boards.global, unpack(ids))
    local trends = redis.call('ZMSCORE', boards.trending, unpack(ids))
    local owners = redis.call('HMGET', boards.owners, unpack(ids))
    local noted = redis.call('HMGET', boards.revisions, unpack(ids))
    local up, hot, cold, gone, owned, note = {}, {}, {}, {}, {}, {}
    for i, id in ipairs(ids) do
      local at = start + SIZE * (i - 1)
      local owner, score, trend, revision = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
      local idle = line and trend ~= '' and tonumber(trend) < line and not scores[i]
      if not idle and is_later(revision, noted[i], score, scores[i]) then
        local moved, bent = differs(score, scores[i]), differs(trend, trends[i])
        local passed = score ~= '' and owner ~= owners[i]
        if score == '' then
          if moved then gone[#gone + 1] = id end
        elseif moved then
          up[#up + 1] = score
          up[#up + 1] = id
        end
        if bent and trend == '' then
          cold[#cold + 1] = id
        elseif bent then
          hot[#hot + 1] = trend
          hot[#hot + 1] = id
        end
        if passed then
          owned[#owned + 1] = id
          owned[#owned + 1] = owner
        end
        if revision ~= noted[i] then
          note[#note + 1] = id
          note[#note + 1] = revision
        end
        local measured = id == CANARY and revision ~= noted[i]
        if moved or bent or passed or measured then
          changed[#changed + 1] = '[' .. cjson.encode(id) .. ',' .. cjson.encode(owner)
            .. ',"' .. score .. '","' .. trend .. '"]'
          revisions[#revisions + 1] = revision
        end
      end
    end
    if #up > 0 then redis.call('ZADD', boards.global, unpack(up)) end
    if #hot > 0 then redis.call('ZADD', boards.trending, unpack(hot)) end
    if #cold > 0 then redis.call('ZREM', boards.trending, unpack(cold)) end
    if #owned > 0 then redis.call('HSET', boards.owners, unpack(owned)) end
    if #note > 0 then redis.call('HSET', boards.revisions, unpack(note)) end
    if #gone > 0 then
      redis.call('ZREM', boards.global, unpack(gone))
      redis.call('HDEL', boards.owners, unpack(gone))
    end
  end
  return changed, revisions
end
