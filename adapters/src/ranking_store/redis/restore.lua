-- One step of a repair. ARGV: channel, generation, steps made before, token of the repair, seconds for which a shadow
-- and the count of steps are kept, then the entries
local steps = tonumber(ARGV[3])
local stop, boards, name = go_on(ARGV[1], ARGV[2], steps, ARGV[4])
if stop then return stop end
begin_revisions(boards, ARGV[2])
local changed = put(boards, 6)
if boards == shadow then
  redis.call('HSET', shadow.state, 'held', held(shadow))
  -- This repair may never end: the shadow must not stay for ever.
  for _, key in pairs(shadow) do redis.call('EXPIRE', key, ARGV[5]) end
elseif #changed > 0 then
  -- Versions count all changes, also unpublished ones: a subscriber that missed a change notices the hole.
  redis.call('HINCRBY', live.state, 'version', 1)
end
redis.call('SET', KEYS[6], name .. '/' .. text(steps + 1), 'EX', ARGV[5])
return 'applied'
