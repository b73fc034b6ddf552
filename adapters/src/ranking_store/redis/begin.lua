-- Begins a generation, if `generation` is new here: empties the boards (in Redis's background) and tells subscribers.
-- Answers 'superseded' where a later one is in force, 'lost' where the repair had begun before, else nothing.
local RESET = '{"format":1,"reset":true}'

local function begin(channel, generation, steps)
  local stored = redis.call('HGET', KEYS[1], 'generation')
  if stored and tonumber(stored) > tonumber(generation) then return 'superseded' end
  if not stored or tonumber(stored) < tonumber(generation) then
    if steps > 0 then return 'lost' end
    local version = redis.call('HGET', KEYS[1], 'version')
    if version then
      version = tonumber(version) + 1
    else
      -- Versions of a store that lost everything go on far above the old ones, so that nobody takes them for those.
      local now = redis.call('TIME')
      version = tonumber(now[1]) * 1000000 + tonumber(now[2])
    end
    redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
    redis.call('HSET', KEYS[1], 'format', '1', 'generation', generation, 'version', text(version))
    redis.call('PUBLISH', channel, RESET)
  end
  -- A step that was taken but not answered may be taken again.
  if steps > 0 and tonumber(redis.call('GET', KEYS[5]) or '0') < steps then return 'lost' end
end
