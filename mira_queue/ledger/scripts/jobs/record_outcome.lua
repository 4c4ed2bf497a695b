-- Settle a job's outcome before it goes to a result backend elsewhere: from here on it is never called again.
-- Why atomic: a worker whose lease was lost must not decide.
-- KEYS  1 job hash
-- ARGV  1 epoch   2 outcome
-- Returns 1 | 0 (the lease was lost)
local job = redis.call('HMGET', KEYS[1], 'state', 'epoch')
if job[1] ~= 'running' or job[2] ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'outcome', ARGV[2])
redis.call('HDEL', KEYS[1], 'calling')
return 1
