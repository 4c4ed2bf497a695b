-- Extend a lease: the worker is alive and still runs this job.
-- Why atomic: a lost lease must not become valid again.
-- Uses  clock
-- KEYS  1 job hash   2 leased zset
-- ARGV  1 job id   2 epoch   3 lease in ms
-- Returns 1 | 0 (another worker has the lease, or the job has finished)
local id, epoch, lease_ms = unpack(ARGV)
local state, held_epoch = unpack(redis.call('HMGET', KEYS[1], 'state', 'epoch'))
if state ~= 'running' or held_epoch ~= epoch then
  return 0
end
redis.call('ZADD', KEYS[2], server_ms() + lease_ms, id)
return 1
