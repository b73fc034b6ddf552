-- Stores videos' metadata unless a later revision is stored. KEYS: projection (hash), metadata (hash).
-- ARGV: channel, generation, then id, revision, metadata ('' for none) of each
local ids, news = {}, {}
for at = 3, #ARGV, 3 do ids[#ids + 1] = ARGV[at] end
local noted = redis.call('HMGET', KEYS[2], unpack(ids))
local generation = tonumber(ARGV[2])
for i, id in ipairs(ids) do
  local revision, metadata = ARGV[3 * i + 1], ARGV[3 * i + 2]
  local of, state, known = string.match(noted[i] or '', '^(%d+) (%d+) (.*)$')
  local stands = of and (tonumber(of) > generation or tonumber(of) == generation and tonumber(state) > tonumber(revision))
  if not stands then
    if metadata ~= '' then
      redis.call('HSET', KEYS[2], id, ARGV[2] .. ' ' .. revision .. ' ' .. metadata)
    elseif of then
      redis.call('HDEL', KEYS[2], id)
    end
    if metadata ~= (known or '') then news[#news + 1] = cjson.encode(id) end
  end
end
-- Without boards nobody shows metadata, so nothing is published.
if #news > 0 and redis.call('HEXISTS', KEYS[1], 'generation') == 1 then
  local version = redis.call('HINCRBY', KEYS[1], 'version', 1)
  local message = '{"format":1,"version":' .. string.format('%.0f', version) .. ',"entries":[],"described":['
    .. table.concat(news, ',') .. ']}'
  redis.call(string.find(ARGV[1], '{', 1, true) and 'SPUBLISH' or 'PUBLISH', ARGV[1], message)
end
return #news
