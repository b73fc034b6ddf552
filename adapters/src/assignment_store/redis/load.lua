-- Returns the version, then video and assignment of each
local all = redis.call('HGETALL', KEYS[1])
local answer = {version()}
for at = 1, #all, 2 do
  -- Leaves out an assignment with an epoch that was never minted; an unreadable one is returned, and the caller
  -- reports it.
  local readable, assignment = pcall(cjson.decode, all[at + 1])
  local epoch = readable and type(assignment) == 'table' and tonumber(assignment.epoch)
  if not epoch or epoch <= latest then
    answer[#answer + 1] = all[at]
    answer[#answer + 1] = all[at + 1]
  end
end
return answer
