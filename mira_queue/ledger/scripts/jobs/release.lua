-- Release a claimed job: it returns to the queue intact, because its worker stops, or because another job goes first. No
-- attempt is charged, and a call that is still in flight is counted as perhaps billed.
-- Why atomic: a job that is neither leased nor queued would never continue.
-- Uses  clock, job, timeline
-- KEYS  of the job (lib/job.lua), and its timeline
-- ARGV  1 job id   2 epoch
-- Returns 1 | 0 (the lease is lost)
local id, epoch = unpack(ARGV)
local state, held_epoch, priority, group = unpack(redis.call('HMGET', JOB, 'state', 'epoch', 'priority', 'group'))
if held_epoch ~= epoch then
  return 0
end
if state ~= 'running' then
  return state == 'queued' and 1 or 0
end
local now = server_ms()
if group == '' then
  add_lease(KEYS[LAST_QUEUE + 1], now, nil, 'released')
end
redis.call('HSET', JOB, 'state', 'queued')
redis.call('HDEL', JOB, 'token')
count_call()
redis.call('ZREM', LEASED, id)
redis.call('ZADD', priority == 'low' and LOW or FIRST, now, id)
return 1
