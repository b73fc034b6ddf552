-- The end of a repair. KEYS[5] counts its steps. ARGV: channel, generation, steps taken, then partition, offset of each
local stop = begin(ARGV[1], ARGV[2], tonumber(ARGV[3]))
if stop then return stop end
for at = 4, #ARGV, 2 do
  local field = 'offset:' .. ARGV[at]
  if tonumber(redis.call('HGET', KEYS[1], field) or '-1') < tonumber(ARGV[at + 1]) then
    redis.call('HSET', KEYS[1], field, ARGV[at + 1])
  end
end
redis.call('DEL', KEYS[5])
redis.call('PUBLISH', ARGV[1], RESET)
return 'applied'
