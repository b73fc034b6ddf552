-- Stores an assignment. ARGV: channel, video, expected epoch ('' for none), highest epoch seen, readers as JSON,
-- planner's term ('' for none)
local in_force = ARGV[6] ~= '' and fence(ARGV[6])
if in_force then return {'fenced', in_force} end
local current, stands = assigned(ARGV[2])
if stands ~= ARGV[3] then return {'conflict', current or ''} end
local epoch = mint('epoch', ARGV[4])
local assignment = '{"format":1,"epoch":' .. epoch .. ',"readers":' .. ARGV[5] .. '}'
redis.call('HSET', KEYS[2], 'epoch', epoch)
redis.call('HSET', KEYS[1], ARGV[2], assignment)
tell(ARGV[1], ARGV[2], assignment)
return {'stored', assignment}
