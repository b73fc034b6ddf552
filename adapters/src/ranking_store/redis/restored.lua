-- The end of a repair. ARGV: channel, generation, steps made, token of the repair, then partition, offset of each
local stop, boards, name = go_on(ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4])
if stop then return stop end
if boards == shadow then
  local version = tonumber(redis.call('HGET', live.state, 'version') or '0') + 1
  -- Renaming over a large key would delete it at once and block Redis.
  drop(live)
  for _, board in ipairs({'global', 'trending', 'owners', 'revisions'}) do
    if redis.call('EXISTS', shadow[board]) == 1 then
      redis.call('RENAME', shadow[board], live[board])
      redis.call('PERSIST', live[board])
    end
  end
  drop(shadow)
  redis.call('HSET', live.state, 'format', '1', 'generation', ARGV[2], 'version', text(version), 'shadow', name,
    'revisions', ARGV[2])
end
for at = 5, #ARGV, 2 do
  local field = 'offset:' .. ARGV[at]
  if tonumber(redis.call('HGET', live.state, field) or '-1') < tonumber(ARGV[at + 1]) then
    redis.call('HSET', live.state, field, ARGV[at + 1])
  end
end
redis.call('DEL', KEYS[6])
tell(ARGV[1], RESET)
return 'applied'
