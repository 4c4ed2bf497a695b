-- Move an open job to another account: the key of its own has changed. It is queued there, intact, or waits there until it
-- may start. Only the 429s of its old account are forgotten: in the new one, they would make the job the cause of its
-- first 429.
-- Why atomic: a job belongs to one account at a time, and a worker that claims it at this moment keeps it.
-- Uses  clock, job, timeline
-- KEYS  of the job in its old account (lib/job.lua); then of the new one: idempotency key, first queued zset,
--       waiting zset, deadlines zset; then the old deadlines zset, and the job's timeline
-- ARGV  1 job id   2 old account   3 new account   4 name of the idempotency key ('' for none)
-- Returns 1 (moved: it needs a message in the first lane) | 0 (it runs, has ended, or is not in the old account)
--         | -1 (the new account has a job with the same idempotency key)
local id, old, new, name = unpack(ARGV)
local new_key, new_first, new_waiting, new_deadlines, old_deadlines, timeline = unpack(KEYS, LAST_QUEUE + 1)
local now = server_ms()
local state, owner, outcome, not_before_ms, group
  = unpack(redis.call('HMGET', JOB, 'state', 'account', 'outcome', 'not_before_ms', 'group'))
local expires_ms = redis.call('ZSCORE', LEASED, id)
local is_orphaned = state == 'running' and (not expires_ms or tonumber(expires_ms) <= now)
if owner ~= old or outcome or (state ~= 'queued' and state ~= 'waiting' and not is_orphaned) then
  return 0
end
if name ~= '' then
  if redis.call('EXISTS', new_key) == 1 then
    return -1
  end
  redis.call('RENAMENX', IDEMPOTENCY, new_key)
end
if group == '' then
  add_lease(timeline, now, nil, 'moved', nil, new)
end
if is_orphaned then
  -- Its worker crashed. A new epoch: if that resumes, it stores nothing.
  redis.call('HINCRBY', JOB, 'epoch', 1)
  if count_call() then
    redis.call('HINCRBY', JOB, 'crashes', 1)
  end
end
redis.call('HSET', JOB, 'state', 'queued', 'account', new)
forget_rejections()
redis.call('HDEL', JOB, 'token', 'due_ms', 'reason')
redis.call('ZREM', LEASED, id)
leave_queue(id)
local deadline_ms = redis.call('ZSCORE', old_deadlines, id)
if deadline_ms then
  redis.call('ZREM', old_deadlines, id)
  redis.call('ZADD', new_deadlines, deadline_ms, id)
end
if not_before_ms and tonumber(not_before_ms) > now then
  -- A message that comes earlier finds that it is not due.
  redis.call('HSET', JOB, 'state', 'waiting', 'due_ms', not_before_ms)
  redis.call('ZADD', new_waiting, not_before_ms, id)
else
  redis.call('ZADD', new_first, now, id)
end
return 1
