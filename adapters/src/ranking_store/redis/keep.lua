-- Marks declared boards as wanted now, and returns the keys of boards that were not wanted for ARGV[1] seconds.
-- KEYS: the list of declared boards (hash: key → time). ARGV: seconds, then the keys of the wanted boards
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
