-- Release a claimed job: it returns to the queue intact, because its worker stops, or because another job goes first. No
-- attempt is charged, and a call that is still in flight is counted as perhaps billed.
-- Why atomic: a job that is neither leased nor queued would never continue.
-- Uses  clock, job
-- KEYS  of the job (lib/job.lua)
-- ARGV  1 job id   2 epoch
-- Returns 1 | 0 (the lease is lost)
local id, epoch = unpack(ARGV)
local state, held_epoch, priority = unpack(redis.call('HMGET', JOB, 'state', 'epoch', 'priority'))
if held_epoch ~= epoch then
  return 0
end
if state ~= 'running' then
  return state == 'queued' and 1 or 0
end
redis.call('HSET', JOB, 'state', 'queued')
redis.call('HDEL', JOB, 'token')
count_call()
redis.call('ZREM', LEASED, id)
redis.call('ZADD', priority == 'low' and LOW or FIRST, server_ms(), id)
return 1
