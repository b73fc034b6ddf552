-- KEYS: the list of declared boards (hash). ARGV: after how many seconds one is not wanted any more, then the keys of those that are
-- Notes when these were wanted last, and answers the keys of the others that were not wanted for so long.
local now = tonumber(redis.call('TIME')[1])
local wanted = {}
for at = 2, #ARGV do
  wanted[ARGV[at]] = true
  redis.call('HSET', KEYS[1], ARGV[at], string.format('%.0f', now))
end
local unwanted, listed = {}, redis.call('HGETALL', KEYS[1])
for at = 1, #listed, 2 do
  local since = tonumber(listed[at + 1]) or 0
  if not wanted[listed[at]] and since + tonumber(ARGV[1]) <= now then unwanted[#unwanted + 1] = listed[at] end
end
return unwanted
