-- ARGV: term, reader, its cordon as JSON ('' to open it). Answers the term in force where this one is over, else ''
local in_force = fence(ARGV[1])
if in_force then return in_force end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[3], ARGV[2])
else
  redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
end
return ''
