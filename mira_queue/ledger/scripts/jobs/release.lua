-- Give a job back unharmed: the worker stops. No attempt is charged; a call whose answer is not awaited is counted.
-- Why atomic: it must be either leased or queued, or nobody would move it on.
-- KEYS  1 job hash   2 leased zset   3 queued zset of the lane that goes first
-- ARGV  1 job id   2 epoch
-- Returns 1 | 0 (the lease was lost)
local job = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'calling')
if job[2] ~= ARGV[2] then
  return 0
end
if job[1] ~= 'running' then
  return job[1] == 'queued' and 1 or 0
end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'state', 'queued')
if job[3] then
  redis.call('HINCRBY', KEYS[1], 'unanswered', 1)
end
redis.call('HDEL', KEYS[1], 'token', 'calling')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
return 1
