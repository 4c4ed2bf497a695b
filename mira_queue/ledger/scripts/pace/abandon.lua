-- A call will bring no answer: its worker is gone, or has given its job back. Its place is free; another one probes.
-- Why atomic: only that call's; the next one of the same job may be out by now.
-- KEYS  1 job hash   2 pace hash   3 flying zset
-- ARGV  1 job id   2 epoch, '' for the job's present one
-- Returns 1 when it was the probe, else 0
local member = ARGV[1] .. ':' .. (ARGV[2] ~= '' and ARGV[2] or redis.call('HGET', KEYS[1], 'epoch') or '')
redis.call('ZREM', KEYS[3], member)
if redis.call('HGET', KEYS[2], 'probe') ~= member then
  return 0
end
redis.call('HSET', KEYS[2], 'probe', 'needed', 'probe_until', 0)
return 1
