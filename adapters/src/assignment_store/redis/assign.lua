-- ARGV: channel, video, expected epoch ('' for none), highest epoch seen, readers as JSON
local current = redis.call('HGET', KEYS[1], ARGV[2])
local stands = current and text(cjson.decode(current).epoch) or ''
if stands ~= ARGV[3] then return {'conflict', current or ''} end
local epoch = tonumber(redis.call('HGET', KEYS[2], 'epoch') or '0')
epoch = text(math.max(epoch, tonumber(ARGV[4])) + 1)
local assignment = '{"format":1,"epoch":' .. epoch .. ',"readers":' .. ARGV[5] .. '}'
redis.call('HSET', KEYS[2], 'epoch', epoch)
redis.call('HSET', KEYS[1], ARGV[2], assignment)
tell(ARGV[1], ARGV[2], assignment)
return {'stored', assignment}
