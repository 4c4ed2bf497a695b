-- Record a job's outcome before it goes to a result backend on another server. From then on the job makes no call.
-- Why atomic: a worker that has lost its lease must not decide.
-- KEYS  1 job hash
-- ARGV  1 epoch   2 outcome
-- Returns 1 | 0 (the lease is lost)
local epoch, outcome = unpack(ARGV)
local state, held_epoch = unpack(redis.call('HMGET', KEYS[1], 'state', 'epoch'))
if state ~= 'running' or held_epoch ~= epoch then
  return 0
end
redis.call('HSET', KEYS[1], 'outcome', outcome)
redis.call('HDEL', KEYS[1], 'calling')
return 1
