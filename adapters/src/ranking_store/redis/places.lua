-- Where a video stands. KEYS: global_ranking, trending (sorted sets). ARGV: the video's id
-- Answers for each board how many stand above it (-1: it is not there), and how many there are.
local answer = {}
for _, board in ipairs(KEYS) do
  answer[#answer + 1] = redis.call('ZREVRANK', board, ARGV[1]) or -1
  answer[#answer + 1] = redis.call('ZCARD', board)
end
return answer
