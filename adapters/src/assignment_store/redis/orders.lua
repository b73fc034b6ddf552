-- Answers term ('' for none), holder and beat of who plans, and all cordons
local office = redis.call('HMGET', KEYS[2], 'term', 'holder', 'beat')
return {office[1] or '', office[2] or '', office[3] or '0', redis.call('HVALS', KEYS[3])}
