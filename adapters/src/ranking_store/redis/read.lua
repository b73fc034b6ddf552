-- Returns lines of both boards. ARGV: number of lines, then id and score to begin after; without them it begins at the
-- best
-- Returns generation ('' if empty), version, then id, owner, score, trending ('' for none), revision ('' for none) of
-- each
local state = redis.call('HMGET', KEYS[1], 'generation', 'version', 'revisions')
local first = ARGV[2] and after(KEYS[2], ARGV[3], ARGV[2]) or 0
local found = redis.call('ZREVRANGE', KEYS[2], first, first + ARGV[1] - 1, 'WITHSCORES')
local answer = {state[1] or '', state[2] or '0'}
if #found == 0 then return answer end
local ids = {}
for at = 1, #found, 2 do ids[#ids + 1] = found[at] end
local owners = redis.call('HMGET', KEYS[4], unpack(ids))
local trends = redis.call('ZMSCORE', KEYS[3], unpack(ids))
local noted = state[3] == state[1] and redis.call('HMGET', KEYS[5], unpack(ids)) or {}
for i, id in ipairs(ids) do
  answer[#answer + 1] = id
  answer[#answer + 1] = owners[i] or ''
  answer[#answer + 1] = found[2 * i]
  answer[#answer + 1] = trends[i] or ''
  answer[#answer + 1] = noted[i] or ''
end
return answer
