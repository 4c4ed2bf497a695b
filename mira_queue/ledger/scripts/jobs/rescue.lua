-- Rescue a job whose lease has expired, because its worker crashed.
-- Why atomic: of any number of rescuers one gets the job, and only if its worker has not extended the lease.
-- Uses  clock, job, timeline
-- KEYS  of the job (lib/job.lua), and its timeline
-- ARGV  1 job id   2 crashes that make it a poison job   3 lease in ms, for storing the outcome of a poison job
-- Returns {'queued', epoch of the expired lease} | {'nothing'}
--         | {'poison', epoch, attempts, crashes, unanswered, key, group, history, project, traceparent}
local id, max_crashes, lease_ms = unpack(ARGV)
local now = server_ms()
local expires_ms = redis.call('ZSCORE', LEASED, id)
if not expires_ms or tonumber(expires_ms) > now then
  return { 'nothing' }
end
local state, epoch, attempts, crashes, unanswered, key, group, outcome, history, project,
  traceparent = unpack(redis.call('HMGET', JOB,
  'state', 'epoch', 'attempts', 'crashes', 'unanswered', 'key', 'group', 'outcome', 'history',
  'project', 'traceparent'))
if state ~= 'running' then
  redis.call('ZREM', LEASED, id)
  return { 'nothing' }
end
redis.call('HDEL', JOB, 'token')
if group == '' then
  add_lease(KEYS[LAST_QUEUE + 1], now, nil, 'crashed')
end
local counted = count_call()
-- Only during its call can a job have crashed its worker. A job that waited for a permit is innocent.
crashes = counted and not outcome and redis.call('HINCRBY', JOB, 'crashes', 1) or tonumber(crashes or 0)
if crashes >= tonumber(max_crashes) and not outcome then
  -- A new epoch: if the old worker resumes, it stores nothing.
  epoch = redis.call('HINCRBY', JOB, 'epoch', 1)
  redis.call('ZADD', LEASED, now + lease_ms, id)
  return { 'poison', epoch, tonumber(attempts or 0), crashes, counted or tonumber(unanswered or 0), key, group,
    history or '', project or '', traceparent or '' }
end
redis.call('HSET', JOB, 'state', 'queued')
redis.call('ZREM', LEASED, id)
redis.call('ZADD', FIRST, now, id)
return { 'queued', tonumber(epoch) }
