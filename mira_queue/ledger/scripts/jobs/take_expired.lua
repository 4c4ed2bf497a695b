-- Take a single job whose deadline has passed before it was claimed, to finish it as expired.
-- Why atomic: of any number of rescuers one gets the job. A job that a worker claims at this moment stays there: its permit
-- is denied.
-- Uses  clock, job
-- KEYS  of the job (lib/job.lua), and the account's deadlines zset
-- ARGV  1 job id   2 account   3 lease in ms, for storing the outcome
-- Returns {epoch, attempts, crashes, unanswered, key, history, project, traceparent} | nil (there is nothing to do)
local id, account, lease_ms = unpack(ARGV)
local deadlines, now = KEYS[#KEYS], server_ms()
local state, owner, epoch, deadline_ms, attempts, crashes, unanswered, key, outcome, history, project,
  traceparent
  = unpack(redis.call('HMGET', JOB, 'state', 'account', 'epoch', 'deadline_ms', 'attempts', 'crashes', 'unanswered', 'key',
    'outcome', 'history', 'project', 'traceparent'))
if state == 'running' and owner == account then
  -- If it returns to the queue, it is taken then.
  redis.call('ZADD', deadlines, now + lease_ms, id)
  return
end
if (state ~= 'queued' and state ~= 'waiting') or owner ~= account or outcome or not deadline_ms then
  redis.call('ZREM', deadlines, id)
  return
end
if tonumber(deadline_ms) > now then
  return
end
epoch = epoch + 1
redis.call('HSET', JOB, 'state', 'running', 'epoch', epoch)
redis.call('HDEL', JOB, 'due_ms', 'reason', 'token')
leave_queue(id)
redis.call('ZREM', deadlines, id)
redis.call('ZADD', LEASED, now + lease_ms, id)
return { tonumber(epoch), tonumber(attempts or 0), tonumber(crashes or 0), tonumber(unanswered or 0), key, history or '',
  project or '', traceparent or '' }
