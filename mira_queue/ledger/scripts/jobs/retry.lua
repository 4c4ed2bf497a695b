-- Run a failed job again, on its owner's command: attempts and crashes start from nothing, lost answers stay counted.
-- Why atomic: the stored error goes and the job is queued, or neither.
-- KEYS  1 job hash   2 request   3 queued zset   4 idempotency key   5 result
-- ARGV  1 job id   2 token of this call (a repeated call with the same token gets the same answer)
-- Returns {1, 'queued'} | {0, state} (only a failed job can be retried) | {0, 'missing'}
local job = redis.call('HMGET', KEYS[1], 'state', 'key', 'token')
if not job[1] then
  return { 0, 'missing' }
end
if job[1] == 'queued' and job[3] == ARGV[2] then
  return { 1, job[1] }
end
if job[1] ~= 'failed' then
  return { 0, job[1] }
end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'state', 'queued', 'token', ARGV[2])
redis.call('HDEL', KEYS[1], 'attempts', 'crashes', 'finished_ms', 'reason')
redis.call('PERSIST', KEYS[1])
redis.call('PERSIST', KEYS[2])
if job[2] ~= '' then
  redis.call('PERSIST', KEYS[4])
end
redis.call('DEL', KEYS[5])
redis.call('ZADD', KEYS[3], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
return { 1, 'queued' }
