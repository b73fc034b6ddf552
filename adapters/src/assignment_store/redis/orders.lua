-- Returns the planner's term ('' for none), holder, beat and lease ('' for none), and all cordons
return {planner(), redis.call('HVALS', KEYS[3])}
