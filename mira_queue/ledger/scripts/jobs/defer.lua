-- Defer a job: it waits for its time, without a lease.
-- Why atomic: it must be either leased or waiting, or nobody would move it on.
-- KEYS  1 job hash   2 leased zset   3 waiting zset
-- ARGV  1 job id   2 epoch   3 ms to wait   4 ms after which a message on its way counts as lost (0: none is on its way)
--       5 attempts   6 unanswered calls   7 reason
-- Returns 1 | 0 (the lease was lost)
local job = redis.call('HMGET', KEYS[1], 'state', 'epoch')
if job[2] ~= ARGV[2] then
  return 0
end
if job[1] ~= 'running' then
  return job[1] == 'waiting' and 1 or 0
end
local now = redis.call('TIME')
local due_ms = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3]
redis.call('HSET', KEYS[1], 'state', 'waiting', 'due_ms', due_ms, 'attempts', ARGV[5], 'unanswered', ARGV[6],
  'reason', ARGV[7])
redis.call('HDEL', KEYS[1], 'token', 'calling')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], due_ms + ARGV[4], ARGV[1])
return 1
