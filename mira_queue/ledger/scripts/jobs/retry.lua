-- Retry a failed job on its owner's command. Attempts and crashes restart at zero. Unanswered calls and lost tokens
-- stay counted.
-- Why atomic: the stored error is deleted and the job is queued, or neither.
-- Uses  clock, job, job_usage, listed, timeline, usage
-- KEYS  of the job (lib/job.lua); then the queued zset of its lane, its timeline, and its indexes (lib/listed.lua)
-- ARGV  1 job id   2 its account   3 token of this call (a repeated call with the same token gets the same response)
--       4 and 5 limits of its project: open jobs, cost of the day (0: none)
-- Returns 1 | 0 (only a failed job can be retried) | nil (it does not exist)
--         | 'open' | 'cost' (the limit that does not allow it)
local id, account, token, max_open, max_cost = unpack(ARGV)
local queued, timeline = unpack(KEYS, LAST_QUEUE + 1, LAST_QUEUE + 2)
local state, owner, key, held_token, group, created_ms, project, finished_ms, reason
  = unpack(redis.call('HMGET', JOB, 'state', 'account', 'key', 'token', 'group', 'created_ms', 'project', 'finished_ms',
    'reason'))
if not state then
  return nil
end
if state ~= 'failed' or owner ~= account then
  return state == 'queued' and held_token == token and 1 or 0
end
if project then
  local usage = KEYS[LAST_QUEUE + 4]
  local limit = limit_reached(usage, tonumber(max_open), tonumber(max_cost), 1, 0)
  if limit then
    return limit
  end
  open_job_usage(JOB, usage)
end
local now = server_ms()
if group == '' then
  add_lease(timeline, now, nil, 'retried', finished_ms, reason)
  redis.call('PERSIST', timeline)
end
redis.call('HSET', JOB, 'state', 'queued', 'token', token)
-- Without its deadline: its owner wants it to run now.
redis.call('HDEL', JOB, 'attempts', 'crashes', 'finished_ms', 'reason', 'deadline_ms')
forget_rejections()
redis.call('PERSIST', JOB)
redis.call('PERSIST', REQUEST)
if key ~= '' then
  redis.call('PERSIST', IDEMPOTENCY)
end
redis.call('DEL', RESULT)
redis.call('ZADD', queued, now, id)
if group == '' then
  list_open(id, project, created_ms, LAST_QUEUE + 3)
end
return 1
