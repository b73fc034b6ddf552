-- What the scripts of a repair begin with. KEYS[6] says where and how far this repair is: '<where>/<steps>'.
-- KEYS[7] to KEYS[11]: the shadow, where a new generation is gathered while the boards of the old one serve. It is shared
-- by all who fill it, for their entries are absolute; its name is the token of who began it.
local shadow = {state = KEYS[7], global = KEYS[8], trending = KEYS[9], owners = KEYS[10], revisions = KEYS[11]}
local RESET = '{"format":1,"reset":true}'

local function drop(boards)
  -- In Redis's background.
  redis.call('UNLINK', boards.state, boards.global, boards.trending, boards.owners, boards.revisions)
end

-- What a shadow holds, in numbers: it expires, and a full Redis may evict keys that do, one by one.
local function held(boards)
  return redis.call('ZCARD', boards.global) .. '/' .. redis.call('ZCARD', boards.trending)
    .. '/' .. redis.call('HLEN', boards.owners) .. '/' .. redis.call('HLEN', boards.revisions)
end

-- The boards that a repair towards a later generation fills, and their name; begins them where there are none.
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

-- The boards that this repair writes to and their name, after why it has to stop, if it has.
local function place(channel, generation, steps, token)
  local stored = redis.call('HGET', live.state, 'generation')
  if not stored then
    if steps > 0 then return 'lost' end
    -- Versions of a store that lost everything go on far above the old ones, so that nobody takes them for those.
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

-- As `place`, and 'lost' where not all steps before this one are on those boards.
local function go_on(channel, generation, steps, token)
  local stop, boards, name = place(channel, generation, steps, token)
  if stop or steps == 0 then return stop, boards, name end
  -- A step that was taken but not answered may be taken again.
  local where, taken = string.match(redis.call('GET', KEYS[6]) or '', '^(%w+)/(%d+)$')
  if not where or tonumber(taken) < steps then return 'lost' end
  if where == name then return nil, boards, name end
  -- Somebody else was faster: the shadow that this repair wrote to is in force now.
  if boards == live and where == redis.call('HGET', live.state, 'shadow') then return nil, live, name end
  return 'lost'
end
