-- Takes idle videos off the boards and forgets their revisions.
-- ARGV: channel, generation, decayed score below which a video is idle, the most videos to take off
-- Returns the number of videos that were taken off.
if redis.call('HGET', live.state, 'generation') ~= ARGV[2] then return 0 end
redis.call('HSET', live.state, 'line', ARGV[3])
local ids = redis.call('ZRANGEBYSCORE', live.trending, '-inf', '(' .. ARGV[3], 'LIMIT', 0, ARGV[4])
if #ids == 0 then return 0 end
local owners = redis.call('HMGET', live.owners, unpack(ids))
local noted = redis.call('HMGET', live.revisions, unpack(ids))
local entries, revisions = {}, {}
for i, id in ipairs(ids) do
  -- An owner is always stored; without one, subscribers could not read the change.
  entries[i] = '[' .. cjson.encode(id) .. ',' .. cjson.encode(owners[i] or 'nobody') .. ',"",""]'
  revisions[i] = noted[i] or '0'
end
redis.call('ZREM', live.global, unpack(ids))
redis.call('ZREM', live.trending, unpack(ids))
redis.call('HDEL', live.owners, unpack(ids))
redis.call('HDEL', live.revisions, unpack(ids))
local version = redis.call('HINCRBY', live.state, 'version', 1)
tell(ARGV[1],
  '{"format":1,"version":' .. text(version) .. ',"entries":[' .. table.concat(entries, ',')
  .. '],"revisions":[' .. table.concat(revisions, ',') .. ']}')
return #ids
