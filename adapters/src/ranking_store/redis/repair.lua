-- The common beginning of the scripts of a repair. KEYS[6] holds this repair's boards and its number of steps:
-- '<name>/<steps>'.
-- KEYS[7] to KEYS[11]: the shadow, in which a new generation is gathered while the old boards serve. All who fill it
-- share it, because their entries are absolute; its name is the token of the repair that began it.
local shadow = {state = KEYS[7], global = KEYS[8], trending = KEYS[9], owners = KEYS[10], revisions = KEYS[11]}
local RESET = '{"format":1,"reset":true}'

local function drop(boards)
  -- Redis frees the memory in the background.
  redis.call('UNLINK', boards.state, boards.global, boards.trending, boards.owners, boards.revisions)
end

-- Returns the sizes of a shadow's keys: they expire, and a full Redis may evict them one by one.
local function held(boards)
  return redis.call('ZCARD', boards.global) .. '/' .. redis.call('ZCARD', boards.trending)
    .. '/' .. redis.call('HLEN', boards.owners) .. '/' .. redis.call('HLEN', boards.revisions)
end

-- Returns the shadow of a repair to a later generation, and its name; begins it if there is none.
local function beside(generation, steps, token)
  local begun = redis.call('HMGET', shadow.state, 'generation', 'token', 'held')
  if begun[1] and tonumber(begun[1]) > tonumber(generation) then return 'superseded' end
  if begun[1] and tonumber(begun[1]) == tonumber(generation) and begun[3] == held(shadow) then
    return nil, shadow, begun[2]
  end
  drop(shadow)
  if steps > 0 then return 'lost' end
  redis.call('HSET', shadow.state, 'generation', generation, 'token', token)
  return nil, shadow, token
end

-- Returns the reason to stop (nil for none), then the boards that this repair writes to and their name.
local function place(channel, generation, steps, token)
  local stored = redis.call('HGET', live.state, 'generation')
  if not stored then
    if steps > 0 then return 'lost' end
    -- A store that lost everything begins with a version far above the old ones, so that nobody confuses the two.
    local now = redis.call('TIME')
    local version = tonumber(now[1]) * 1000000 + tonumber(now[2])
    drop(live)
    redis.call('HSET', live.state, 'format', '1', 'generation', generation, 'version', text(version))
    tell(channel, RESET)
    return nil, live, 'live'
  end
  if tonumber(stored) > tonumber(generation) then return 'superseded' end
  if tonumber(stored) < tonumber(generation) then return beside(generation, steps, token) end
  return nil, live, 'live'
end

-- As `place`, but 'lost' unless all steps before this one are on those boards.
local function go_on(channel, generation, steps, token)
  local stop, boards, name = place(channel, generation, steps, token)
  if stop or steps == 0 then return stop, boards, name end
  -- A step that was made and not answered may be made again.
  local where, taken = string.match(redis.call('GET', KEYS[6]) or '', '^(%w+)/(%d+)$')
  if not where or tonumber(taken) < steps then return 'lost' end
  if where == name then return nil, boards, name end
  -- Another repair was faster: the shadow that this repair wrote to is in force now.
  if boards == live and where == redis.call('HGET', live.state, 'shadow') then return nil, live, name end
  return 'lost'
end
