-- Remove a job that has not started, as if it had never been accepted.
-- Why atomic: if a worker claims it at this moment, it runs and stays.
-- Uses  job
-- KEYS  of the job (lib/job.lua)
-- ARGV  1 job id   2 its account
-- Returns {calls that may have been billed without an answer, history of its calls} (it is removed)
--         | nil (it runs, has finished, or has moved to another account)
local id, account = unpack(ARGV)
local state, owner, outcome, key, unanswered, history
  = unpack(redis.call('HMGET', JOB, 'state', 'account', 'outcome', 'key', 'unanswered', 'history'))
if not state then
  return { 0, '' }
end
if owner ~= account or (state ~= 'queued' and state ~= 'waiting') or outcome then
  return nil
end
redis.call('DEL', JOB, REQUEST)
if key ~= '' then
  redis.call('DEL', IDEMPOTENCY)
end
leave_queue(id)
return { tonumber(unanswered or 0), history or '' }
