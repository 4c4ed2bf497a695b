-- Cancel a job: it gets no completion. A call in flight cannot be recalled, and its response is not stored.
-- Why atomic: a job either has its outcome already, or it is cancelled, never both.
-- Uses  activity, clock, job, job_event, job_usage, listed
-- KEYS  of the job (lib/job.lua), the account's activity, its timeline, the keys of an event (lib/events.lua), and its
--       indexes (lib/listed.lua)
-- ARGV  1 job id   2 its account   3 history of its calls, which the record contains
--       4 result record ('' if another result backend gets it)   5 TTL in ms
--       6 1 if a call that is in flight may finish ('' otherwise)
--       7, 8 tokens of its prompts and its answers, which could not be used
-- Returns 1 (cancelled, by this call or an earlier one) | 0 (it has an outcome, or its call may finish)
--         | nil (it does not exist) | -1 (it has moved to another account, or has made a call: read it again)
local id, account, known_history, record, ttl_ms, only_unstarted, prompt, completion = unpack(ARGV)
local state, owner, key, group, outcome, history, created_ms, project, calling, webhook, epoch, model
  = unpack(redis.call('HMGET', JOB, 'state', 'account', 'key', 'group', 'outcome', 'history', 'created_ms', 'project',
    'calling', 'webhook', 'epoch', 'model'))
if not state or state == 'cancelled' then
  return state and 1
end
if state == 'succeeded' or state == 'failed' or outcome or (calling and only_unstarted ~= '') then
  return 0
end
if owner ~= account or (history or '') ~= known_history then
  return -1
end
count_call()
redis.call('HINCRBY', JOB, 'epoch', 1)
local now = server_ms()
redis.call('HSET', JOB, 'state', 'cancelled', 'finished_ms', now)
count_end(KEYS[LAST_QUEUE + 1], now, group, 'cancelled', model, prompt, completion, '0')
redis.call('HDEL', JOB, 'token', 'due_ms', 'reason')
leave_queue(id)
redis.call('DEL', REQUEST)
if group == '' then
  redis.call('PEXPIRE', KEYS[LAST_QUEUE + 2], ttl_ms)
  add_end(LAST_QUEUE + 3, id, webhook, project, epoch, 'cancelled', '')
  if project then
    close_job_usage(JOB, KEYS[LAST_QUEUE + 6], prompt, completion)
  end
  list_end(id, project, created_ms, ttl_ms, LAST_QUEUE + 5)
end
close(id, record, ttl_ms, key, group)
return 1
