-- Stores or lifts a cordon. ARGV: term, reader, cordon as JSON ('' lifts it). Returns the term in force if ARGV's is
-- over, else ''
local in_force = fence(ARGV[1])
if in_force then return in_force end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[3], ARGV[2])
else
  redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
end
return ''
