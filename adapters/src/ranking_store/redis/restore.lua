-- A step of a repair; KEYS[5] counts them. ARGV: channel, generation, steps taken before, then the entries
local stop = begin(ARGV[1], ARGV[2], tonumber(ARGV[3]))
if stop then return stop end
-- Versions count what was changed, told or not: who missed the telling notices the hole.
if #raise(4) > 0 then redis.call('HINCRBY', KEYS[1], 'version', 1) end
redis.call('SET', KEYS[5], text(tonumber(ARGV[3]) + 1), 'EX', 3600)
return 'applied'
