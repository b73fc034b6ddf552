-- Returns a video's ranks. KEYS: global_ranking, trending (sorted sets). ARGV: the video's id
-- Returns for each board the number of videos above it (-1: not on the board), and the number of all.
local answer = {}
for _, board in ipairs(KEYS) do
  answer[#answer + 1] = redis.call('ZREVRANK', board, ARGV[1]) or -1
  answer[#answer + 1] = redis.call('ZCARD', board)
end
return answer
