-- Removes a reader's record if its beat is still this one. KEYS[1] readers (hash). ARGV: reader, beat
local record = redis.call('HGET', KEYS[1], ARGV[1])
local beat = ARGV[2] .. ' '
if record and string.sub(record, 1, #beat) == beat then redis.call('HDEL', KEYS[1], ARGV[1]) end
return redis.status_reply('OK')
