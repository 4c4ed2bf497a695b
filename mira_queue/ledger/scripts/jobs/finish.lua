-- Finish a job: store its outcome, once, and close its ledger entry.
-- Why atomic: each job has one outcome, and no client sees a finished job without its outcome.
-- Uses  activity, clock, job, job_event, job_usage, listed
-- KEYS  of the job (lib/job.lua), and the account's activity; without a group then its timeline, the keys of an event
--       (lib/events.lua), and its indexes (lib/listed.lua)
-- ARGV  1 job id   2 epoch   3 succeeded | failed   4 result record ('' if another result backend has it)   5 TTL in ms
--       6 name of the idempotency key   7 group   8 attempts   9 unanswered calls   10 error code ('' for none)
--       11 history of its calls, for a retry ('' if it says nothing)   12 type of its event: completed | incomplete | failed
--       13, 14 tokens of its prompts and its answers   15 1 if its answer reports no tokens, else 0
--       16 the last call of a single job, for its timeline ('' for none)
--       17, 18 tokens that are billed: with an estimate for an answer that reports none
-- Returns 1 | 0 (the lease is lost: nothing was stored)
local id, epoch, end_state, record, ttl_ms, name, group, attempts, unanswered, code, history, ending,
  prompt, completion, uncounted, call, billed_prompt, billed_completion = unpack(ARGV)
local state, held_epoch, created_ms, project, webhook, model
  = unpack(redis.call('HMGET', JOB, 'state', 'epoch', 'created_ms', 'project', 'webhook', 'model'))
if held_epoch ~= epoch then
  return 0
end
if state ~= 'running' then
  -- The same call, repeated by a client that lost the response.
  return state == end_state and 1 or 0
end
local now = server_ms()
redis.call('HSET', JOB, 'state', end_state, 'finished_ms', now, 'attempts', attempts, 'unanswered', unanswered,
  'reason', code, unpack(call ~= '' and {'call', call} or {}))
count_end(KEYS[LAST_QUEUE + 1], now, group, code, model, prompt, completion, uncounted)
if history ~= '' then
  redis.call('HSET', JOB, 'history', history)
end
redis.call('HDEL', JOB, 'token', 'calling', 'outcome')
-- The request of a job that has succeeded is deleted.
redis.call('PEXPIRE', REQUEST, end_state == 'failed' and ttl_ms or 0)
if group == '' then
  redis.call('PEXPIRE', KEYS[LAST_QUEUE + 2], ttl_ms)
  add_end(LAST_QUEUE + 3, id, webhook, project, epoch, ending, code)
  if project then
    close_job_usage(JOB, KEYS[LAST_QUEUE + 6], billed_prompt, billed_completion)
  end
  list_end(id, project, created_ms, ttl_ms, LAST_QUEUE + 5)
end
close(id, record, ttl_ms, name, group)
return 1
