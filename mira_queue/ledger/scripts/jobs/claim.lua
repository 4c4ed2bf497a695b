-- Claim a job for one worker: the request and a lease with an epoch, or the reason why there is nothing to do.
-- Why atomic: of two messages for one job, or two workers with one message, exactly one gets it.
-- KEYS  1 job hash   2 request   3 leased zset   4 waiting zset   5.. queued zsets of all lanes
-- ARGV  1 job id   2 lease in ms   3 token of this claim (a repeated call with the same token gets the same answer)
-- Returns {'run', epoch, request, attempts, crashes, unanswered, key, group} | {'store', epoch, outcome, key, group}
--         | {'early', ms until due} | {'leased'} | {'final'} | {'missing'}
local job = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'token', 'due_ms', 'attempts', 'crashes', 'unanswered',
  'key', 'group', 'outcome')
local state = job[1]
if not state then
  return { 'missing' }
end
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local epoch = tonumber(job[2])
if state == 'queued' or state == 'waiting' then
  if state == 'waiting' and tonumber(job[4]) > now_ms then
    return { 'early', tonumber(job[4]) - now_ms }
  end
  epoch = epoch + 1
  redis.call('HSET', KEYS[1], 'state', 'running', 'epoch', epoch, 'token', ARGV[3])
  redis.call('HDEL', KEYS[1], 'due_ms', 'reason', 'calling')
  redis.call('ZREM', KEYS[4], ARGV[1])
  for lane = 5, #KEYS do
    redis.call('ZREM', KEYS[lane], ARGV[1])
  end
  redis.call('ZADD', KEYS[3], now_ms + ARGV[2], ARGV[1])
elseif state == 'running' then
  if job[3] ~= ARGV[3] then
    return { 'leased' }
  end
else
  return { 'final' }
end
if job[10] then
  return { 'store', epoch, job[10], job[8], job[9] }
end
return { 'run', epoch, redis.call('GET', KEYS[2]), tonumber(job[5] or 0), tonumber(job[6] or 0),
  tonumber(job[7] or 0), job[8], job[9] }
