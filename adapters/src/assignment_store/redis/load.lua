-- Answers the version, then video and assignment of each
local all = redis.call('HGETALL', KEYS[1])
table.insert(all, 1, version())
return all
