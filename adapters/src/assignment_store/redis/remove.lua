-- Removes an assignment. ARGV: channel, video, expected epoch
local current, stands = assigned(ARGV[2])
if stands ~= ARGV[3] then return {'conflict', current or ''} end
redis.call('HDEL', KEYS[1], ARGV[2])
tell(ARGV[1], ARGV[2], nil)
return {'stored', current}
