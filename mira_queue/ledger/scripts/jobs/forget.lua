-- Forget a single job that has finished, on its owner's command: its outcome is deleted.
-- Why atomic: an open job must not be deleted, nor a job that is retried at this moment.
-- Uses  job
-- KEYS  of the job (lib/job.lua), its timeline, and its indexes (lib/listed.lua)
-- ARGV  1 job id
-- Returns 1 (there is no such job now) | 0 (it is open)
local id = ARGV[1]
local state = redis.call('HGET', JOB, 'state')
if state == 'queued' or state == 'running' or state == 'waiting' then
  return 0
end
redis.call('DEL', JOB, REQUEST, RESULT, IDEMPOTENCY, KEYS[LAST_QUEUE + 1])
redis.call('ZREM', KEYS[LAST_QUEUE + 2], id)
-- Not the usage of its project, which comes next: an ended job does not count.
for place = LAST_QUEUE + 4, #KEYS do
  redis.call('ZREM', KEYS[place], id)
end
return 1
