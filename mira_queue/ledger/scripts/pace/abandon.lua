-- Release the permit of a call that will bring no response: its worker crashed, or has released the job.
-- Why atomic: the next call of the same job may be in flight by now, and must keep its permit.
-- KEYS  1 job hash   2 pace hash   3 in-flight zset
-- ARGV  1 job id   2 epoch ('' for the job's current one)
-- Returns 1 if the call was the probe (the next call becomes the probe), else 0
local job_id, epoch = unpack(ARGV)
if epoch == '' then
  epoch = redis.call('HGET', KEYS[1], 'epoch') or ''
end
local member = job_id .. ':' .. epoch
redis.call('ZREM', KEYS[3], member)
if redis.call('HGET', KEYS[2], 'probe') ~= member then
  return 0
end
redis.call('HSET', KEYS[2], 'probe', 'needed', 'probe_until', 0)
return 1
