-- Rescue a job from a worker that is gone: its lease has passed.
-- Why atomic: any number of rescuers look at once; one of them gets the job, and only if nobody has extended the lease.
-- KEYS  1 job hash   2 leased zset   3 queued zset of the lane that goes first
-- ARGV  1 job id   2 crashes that make it poison   3 lease in ms, for storing a poisoned job's end
-- Returns {'queued'} | {'poison', epoch, attempts, crashes, unanswered, key, group} | {'nothing'}
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local expires_ms = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not expires_ms or tonumber(expires_ms) > now_ms then
  return { 'nothing' }
end
local job = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'calling', 'attempts', 'unanswered', 'key', 'group', 'outcome')
if job[1] ~= 'running' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return { 'nothing' }
end
local unanswered = tonumber(job[5] or 0)
if job[3] then
  unanswered = redis.call('HINCRBY', KEYS[1], 'unanswered', 1)
end
redis.call('HDEL', KEYS[1], 'token', 'calling')
local crashes = tonumber(redis.call('HGET', KEYS[1], 'crashes') or 0)
-- Only in the middle of its call can a job be what killed its worker; one that waited for the gate is innocent.
if job[3] and not job[8] then
  crashes = redis.call('HINCRBY', KEYS[1], 'crashes', 1)
end
if crashes >= tonumber(ARGV[2]) and not job[8] then
  -- A new epoch, so that the old holder, should it wake up, stores nothing.
  local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
  redis.call('ZADD', KEYS[2], now_ms + ARGV[3], ARGV[1])
  return { 'poison', epoch, tonumber(job[4] or 0), crashes, unanswered, job[6], job[7] }
end
redis.call('HSET', KEYS[1], 'state', 'queued')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], now_ms, ARGV[1])
return { 'queued' }
