-- One step of a projection. KEYS[6] counts the steps of a projection that has several.
-- ARGV: channel, generation, this step (from 1), number of steps, traces (a list of JSON texts without its brackets,
-- mostly empty), when the log took the newest record (ms, or ''), number of offset ranges, then partition, from, next of
-- each, then the entries
local stored = redis.call('HGET', KEYS[1], 'generation')
if not stored or tonumber(stored) < tonumber(ARGV[2]) then return 'behind' end
if tonumber(stored) > tonumber(ARGV[2]) then return 'superseded' end

local step, steps = tonumber(ARGV[3]), tonumber(ARGV[4])
-- The last step may move the offsets only if all steps before it are in this same store.
if step > 1 and redis.call('GET', KEYS[6]) ~= text(step - 1) then return 'lost' end

local spans = tonumber(ARGV[7])
local entries = 8 + 3 * spans
local offsets, news = {}, spans == 0
for at = 8, entries - 1, 3 do
  local field = 'offset:' .. ARGV[at]
  local stands = tonumber(redis.call('HGET', KEYS[1], field) or '0')
  if stands < tonumber(ARGV[at + 1]) then return 'behind' end
  if stands < tonumber(ARGV[at + 2]) then
    news = true
    offsets[#offsets + 1] = field
    offsets[#offsets + 1] = ARGV[at + 2]
  end
end
if not news then return 'applied' end

begin_revisions(live, ARGV[2])
local changed, revisions = put(live, entries)
if step == steps then
  if #offsets > 0 then redis.call('HSET', KEYS[1], unpack(offsets)) end
  if steps > 1 then redis.call('DEL', KEYS[6]) end
else
  redis.call('SET', KEYS[6], text(step), 'EX', 60)
end
if #changed > 0 then
  local version = redis.call('HINCRBY', KEYS[1], 'version', 1)
  local traces = ARGV[5] == '' and '' or ',"traces":[' .. ARGV[5] .. ']'
  local logged = ARGV[6] == '' and '' or ',"logged_at":' .. ARGV[6]
  tell(ARGV[1],
    '{"format":1,"version":' .. text(version) .. ',"entries":[' .. table.concat(changed, ',')
    .. '],"revisions":[' .. table.concat(revisions, ',') .. ']' .. traces .. logged .. '}')
end
return 'applied'
