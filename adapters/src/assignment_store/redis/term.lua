-- Begins or renews a planner's term. ARGV: 'mint', expected term (0 for none), holder, highest term seen; or 'renew',
-- term, holder, beat; then in both cases the lease as JSON ('' keeps the stored one)
-- Returns 'held' or 'lost', and the planner
local term, beat = ARGV[2], ARGV[4]
if ARGV[1] == 'mint' then
  if counter('term') ~= term then return {'lost', planner()} end
  term, beat = mint('term', ARGV[4]), '0'
elseif fence(term) then
  return {'lost', planner()}
end
redis.call('HSET', KEYS[2], 'term', term, 'holder', ARGV[3], 'beat', beat)
if ARGV[5] ~= '' then redis.call('HSET', KEYS[2], 'lease', ARGV[5]) end
return {'held', planner()}
