-- Extend a lease: the worker is alive and still on this job.
-- Why atomic: a lease that was lost must not come back to life.
-- KEYS  1 job hash   2 leased zset
-- ARGV  1 job id   2 epoch   3 lease in ms
-- Returns 1 | 0 (the lease is somebody else's, or the job has ended)
local job = redis.call('HMGET', KEYS[1], 'state', 'epoch')
if job[1] ~= 'running' or job[2] ~= ARGV[2] then
  return 0
end
local now = redis.call('TIME')
redis.call('ZADD', KEYS[2], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3], ARGV[1])
return 1
