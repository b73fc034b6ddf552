-- Answers term ('' for none), holder, beat and lease ('' for none) of who plans, and all cordons
return {planner(), redis.call('HVALS', KEYS[3])}
