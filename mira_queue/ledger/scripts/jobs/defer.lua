-- Defer a job: it waits for its time, without a lease. If the deadline of a single job comes earlier, it waits until then,
-- and expires. A line of a file is expired by its supervisor.
-- Why atomic: a job that is neither leased nor waiting would never continue.
-- Uses  clock, job, timeline
-- KEYS  of the job (lib/job.lua), and its timeline
-- ARGV  1 job id   2 epoch   3 ms to wait   4 ms after which its message counts as lost (0: no message will be sent)
--       5 attempts   6 unanswered calls   7 reason   8 history of its calls
--       9 its last call, for the timeline of a single job ('' for none)
-- Returns 1 | 0 (the lease is lost)
local id, epoch, wait_ms, lost_after_ms, attempts, unanswered, reason, history, call = unpack(ARGV)
local state, held_epoch, group, deadline_ms
  = unpack(redis.call('HMGET', JOB, 'state', 'epoch', 'group', 'deadline_ms'))
if held_epoch ~= epoch then
  return 0
end
if state ~= 'running' then
  return state == 'waiting' and 1 or 0
end
local now = server_ms()
local due_ms = now + wait_ms
if group == '' and deadline_ms then
  due_ms = math.min(due_ms, deadline_ms)
end
if group == '' then
  add_lease(KEYS[LAST_QUEUE + 1], now, call ~= '' and call or nil, 'waiting', due_ms, reason)
end
redis.call('HSET', JOB, 'state', 'waiting', 'due_ms', due_ms, 'attempts', attempts, 'unanswered', unanswered,
  'reason', reason, 'history', history)
redis.call('HDEL', JOB, 'token', 'calling')
redis.call('ZREM', LEASED, id)
redis.call('ZADD', WAITING, due_ms + lost_after_ms, id)
return 1
