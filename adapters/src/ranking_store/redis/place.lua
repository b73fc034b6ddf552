-- Whether string a is less than b by bytes; Lua's own comparison depends on the server's locale.
local function below(a, b)
  local shared = math.min(#a, #b)
  for at = 1, shared do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Returns the rank after this score and id; the video may have left the board.
local function after(board, score, id)
  local stands = redis.call('ZSCORE', board, id)
  if stands and tonumber(stands) == tonumber(score) then
    return redis.call('ZREVRANK', board, id) + 1
  end
  -- The score has changed: searches the rank that it would have among equal scores.
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

