-- Stores a video's comments and publishes them. KEYS[1] stream of its last comments: n comment epoch, c comment, b
-- bytes of all comments up to this one
-- ARGV: channel, comment epoch, comments to keep, seconds to keep them, PUBLISH or on a cluster SPUBLISH, bytes to
-- keep, then of each entry, ascending: its sequence number, the entry, and the number of the comment that it removes,
-- or 0
-- If an earlier comment is missing, the stream begins anew. A removed comment is a hole in it. Readers get both from
-- the archive.
local function number(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

-- An earlier release wrote no bytes.
local function bytes(entry)
  return tonumber(entry[2][6] or 0)
end

local first, last
local total = 0
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest and newest[2][2] == ARGV[2] then
  first = number(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1])
  last = number(newest)
  total = bytes(newest)
elseif newest then
  redis.call('UNLINK', KEYS[1])
end

local kept = false
for at = 7, #ARGV, 3 do
  local seq = tonumber(ARGV[at])
  if not last or seq > last then
    if not last or seq > last + 1 then
      redis.call('UNLINK', KEYS[1])
      first = seq
    end
    total = total + #ARGV[at + 1]
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], ARGV[at] .. '-0', 'n', ARGV[2], 'c', ARGV[at + 1],
      'b', string.format('%.0f', total))
    redis.call(ARGV[5], ARGV[1], ARGV[at + 1])
    last, kept = seq, true
  elseif seq < first then
    -- The entry is older than the kept ones: published long ago, or late.
    redis.call(ARGV[5], ARGV[1], ARGV[at + 1])
  end
  -- A kept entry was published when it was stored: nothing is left to do.
  if ARGV[at + 2] ~= '0' then redis.call('XDEL', KEYS[1], ARGV[at + 2] .. '-0') end
end

if kept then
  -- Deletes the oldest entries until the rest fits. The newest one stays.
  local room = tonumber(ARGV[6])
  local look = 1
  while true do
    local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', look)
    local gone = 0
    for _, entry in ipairs(oldest) do
      local behind = total - bytes(entry)
      if total <= room or number(entry) == last or behind + #entry[2][4] <= room or bytes(entry) == 0 then break end
      redis.call('XDEL', KEYS[1], entry[1])
      gone = gone + 1
    end
    if gone < look or gone == 0 then break end
    look = 16
  end
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
