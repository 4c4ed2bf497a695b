-- Retry a failed job on its owner's command. Attempts and crashes restart at zero. Unanswered calls and lost tokens
-- stay counted.
-- Why atomic: the stored error is deleted and the job is queued, or neither.
-- Uses  clock, job
-- KEYS  of the job (lib/job.lua)
-- ARGV  1 job id   2 its account   3 token of this call (a repeated call with the same token gets the same response)
-- Returns 1 | 0 (only a failed job can be retried) | nil (it does not exist)
local id, account, token = unpack(ARGV)
local state, owner, key, held_token = unpack(redis.call('HMGET', JOB, 'state', 'account', 'key', 'token'))
if not state then
  return nil
end
if state ~= 'failed' or owner ~= account then
  return state == 'queued' and held_token == token and 1 or 0
end
redis.call('HSET', JOB, 'state', 'queued', 'token', token)
redis.call('HDEL', JOB, 'attempts', 'crashes', 'finished_ms', 'reason')
forget_rejections()
redis.call('PERSIST', JOB)
redis.call('PERSIST', REQUEST)
if key ~= '' then
  redis.call('PERSIST', IDEMPOTENCY)
end
redis.call('DEL', RESULT)
redis.call('ZADD', NORMAL, server_ms(), id)
return 1
