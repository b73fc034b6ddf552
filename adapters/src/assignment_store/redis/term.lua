-- ARGV: 'mint', the term expected (0 for none), holder, highest term seen; or 'renew', term, holder, beat
-- Answers 'held' or 'lost', and who plans
local function office(outcome)
  local stands = redis.call('HMGET', KEYS[2], 'term', 'holder', 'beat')
  return {outcome, stands[1] or '', stands[2] or '', stands[3] or '0'}
end
local term, beat = ARGV[2], ARGV[4]
if ARGV[1] == 'mint' then
  local stored = redis.call('HGET', KEYS[2], 'term') or '0'
  if stored ~= term then return office('lost') end
  term, beat = mint('term', ARGV[4]), '0'
elseif fence(term) then
  return office('lost')
end
redis.call('HSET', KEYS[2], 'term', term, 'holder', ARGV[3], 'beat', beat)
return office('held')
