-- A call met a server fault or a broken connection: its place is free, and it is set beside what its neighbours met.
-- Why atomic: whoever completes the row of faults closes the gate.
-- KEYS  1 pace hash   2 flying zset   3 turns zset   4 faults set
-- ARGV  1 job:epoch   2 job id   3 when the call left, in ms   4 life of a row of faults in ms
--       5 channel of wake-ups, without the process
-- Returns {jobs in a row that met a fault, calls in flight with it, times the gate was closed for faults,
--          1 when it was the probe of a gate closed for faults, 1 when it left before the gate was last closed,
--          1 when it has opened the gate}
local pace = redis.call('HMGET', KEYS[1], 'reason', 'probe', 'fault_openings', 'opened_at')
local flying = redis.call('ZCARD', KEYS[2])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SADD', KEYS[4], ARGV[2])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
local was_probe = pace[2] == ARGV[1]
local opens = was_probe and pace[1] ~= 'faults'
if opens then
  -- It asked whether the limit is over, and was not refused.
  redis.call('HDEL', KEYS[1], 'probe', 'probe_until', 'open_until', 'reason')
  for _, process in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    redis.call('PUBLISH', ARGV[5] .. process, '1')
  end
end
return { redis.call('SCARD', KEYS[4]), flying, tonumber(pace[3] or 0), was_probe and pace[1] == 'faults' and 1 or 0,
  tonumber(ARGV[3]) <= tonumber(pace[4] or 0) and 1 or 0, opens and 1 or 0 }
