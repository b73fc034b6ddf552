-- A stretch of a board. KEYS: board (sorted set), owners (hash). ARGV: limit, then the cursor's score and id, if any
-- Answers id, score, owner of each, best first.
local board, owners = KEYS[1], KEYS[2]

-- Whether a stands below b in bytes; Lua's own comparison depends on the server's locale.
local function below(a, b)
  local shared = math.min(#a, #b)
  for at = 1, shared do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function after(score, id)
  local stands = redis.call('ZSCORE', board, id)
  if stands and tonumber(stands) == tonumber(score) then
    return redis.call('ZREVRANK', board, id) + 1
  end
  -- The video has moved on: where it would stand with that score, among those that tie.
  local low = redis.call('ZCOUNT', board, '(' .. score, '+inf')
  local high = low + redis.call('ZCOUNT', board, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if below(redis.call('ZREVRANGE', board, middle, middle)[1], id) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local first = ARGV[2] and after(ARGV[2], ARGV[3]) or 0
local found = redis.call('ZREVRANGE', board, first, first + tonumber(ARGV[1]) - 1, 'WITHSCORES')
if #found == 0 then return {} end
local ids, page = {}, {}
for at = 1, #found, 2 do ids[#ids + 1] = found[at] end
for i, owner in ipairs(redis.call('HMGET', owners, unpack(ids))) do
  page[#page + 1] = found[2 * i - 1]
  page[#page + 1] = found[2 * i]
  page[#page + 1] = owner or ''
end
return page
