-- Whether a stands below b in bytes; Lua's own comparison depends on the server's locale.
local function below(a, b)
  local shared = math.min(#a, #b)
  for at = 1, shared do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- How many stand on a board before the place after this one, which need not be taken any more.
local function after(board, score, id)
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

