-- Returns a page of a board. KEYS: board (sorted set), owners (hash). ARGV: number of lines, then the beginning:
-- 'best'; 'after', the cursor's id and score; 'around', a video's id and the number of lines with it in the middle
-- Returns the number of videos before the page and on the whole board, then id, score, owner of each, best first;
-- nothing if the video of 'around' is not on the board.
local board, owners = KEYS[1], KEYS[2]

local total = redis.call('ZCARD', board)
local first = 0
if ARGV[2] == 'after' then
  first = after(board, ARGV[4], ARGV[3])
elseif ARGV[2] == 'around' then
  local stands = redis.call('ZREVRANK', board, ARGV[3])
  if not stands then return {} end
  local limit = tonumber(ARGV[4])
  -- As begin_around of the core does.
  first = math.max(stands - math.floor(math.max(limit - 1, 0) / 2), 0)
  first = math.min(first, math.max(total - limit, 0))
end

local page = {string.format('%.0f', first), string.format('%.0f', total)}
local wanted = tonumber(ARGV[1])
-- A last rank of -1 would mean the whole board.
if wanted == 0 then return page end
local found = redis.call('ZREVRANGE', board, first, first + wanted - 1, 'WITHSCORES')
if #found == 0 then return page end
local ids = {}
for at = 1, #found, 2 do ids[#ids + 1] = found[at] end
for i, owner in ipairs(redis.call('HMGET', owners, unpack(ids))) do
  page[#page + 1] = found[2 * i - 1]
  page[#page + 1] = found[2 * i]
  page[#page + 1] = owner or ''
end
return page
