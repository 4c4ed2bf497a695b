-- Claim a job for one worker. Return the request and a lease with an epoch, or the reason why there is nothing to do.
-- Why atomic: of two messages for one job, or two workers with one message, exactly one gets the job.
-- Uses  clock, read
-- KEYS  1 job hash   2 request   3 leased zset   4 waiting zset   5.. queued zsets of all lanes
-- ARGV  1 job id   2 lease in ms   3 token of this claim (a repeated call with the same token gets the same response)
-- Returns {'run', epoch, request, attempts, crashes, unanswered, key, group} | {'store', epoch, outcome, key, group}
--         | {'early', ms until due} | {'leased'} | {'final'} | {'missing'}
local id, lease_ms, token = unpack(ARGV)
local job = read_hash(KEYS[1], 'state', 'epoch', 'token', 'due_ms', 'attempts', 'crashes', 'unanswered', 'key', 'group',
  'outcome')
if not job.state then
  return { 'missing' }
end
local now, epoch = server_ms(), tonumber(job.epoch)
if job.state == 'queued' or job.state == 'waiting' then
  if job.state == 'waiting' and tonumber(job.due_ms) > now then
    return { 'early', job.due_ms - now }
  end
  epoch = epoch + 1
  redis.call('HSET', KEYS[1], 'state', 'running', 'epoch', epoch, 'token', token)
  redis.call('HDEL', KEYS[1], 'due_ms', 'reason', 'calling')
  redis.call('ZREM', KEYS[4], id)
  for lane = 5, #KEYS do
    redis.call('ZREM', KEYS[lane], id)
  end
  redis.call('ZADD', KEYS[3], now + lease_ms, id)
elseif job.state ~= 'running' then
  return { 'final' }
elseif job.token ~= token then
  return { 'leased' }
end
if job.outcome then
  return { 'store', epoch, job.outcome, job.key, job.group }
end
return { 'run', epoch, redis.call('GET', KEYS[2]), tonumber(job.attempts or 0), tonumber(job.crashes or 0),
  tonumber(job.unanswered or 0), job.key, job.group }
