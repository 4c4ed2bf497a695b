-- Defer a job: it waits for its time, without a lease. If the deadline of a single job comes earlier, it waits until then,
-- and expires. A line of a file is expired by its supervisor.
-- Why atomic: a job that is neither leased nor waiting would never continue.
-- Uses  clock, job
-- KEYS  of the job (lib/job.lua)
-- ARGV  1 job id   2 epoch   3 ms to wait   4 ms after which its message counts as lost (0: no message will be sent)
--       5 attempts   6 unanswered calls   7 reason   8 history of its calls
-- Returns 1 | 0 (the lease is lost)
local id, epoch, wait_ms, lost_after_ms, attempts, unanswered, reason, history = unpack(ARGV)
local state, held_epoch, group, deadline_ms
  = unpack(redis.call('HMGET', JOB, 'state', 'epoch', 'group', 'deadline_ms'))
if held_epoch ~= epoch then
  return 0
end
if state ~= 'running' then
  return state == 'waiting' and 1 or 0
end
local due_ms = server_ms() + wait_ms
if group == '' and deadline_ms then
  due_ms = math.min(due_ms, deadline_ms)
end
redis.call('HSET', JOB, 'state', 'waiting', 'due_ms', due_ms, 'attempts', attempts, 'unanswered', unanswered,
  'reason', reason, 'history', history)
redis.call('HDEL', JOB, 'token', 'calling')
redis.call('ZREM', LEASED, id)
redis.call('ZADD', WAITING, due_ms + lost_after_ms, id)
return 1
