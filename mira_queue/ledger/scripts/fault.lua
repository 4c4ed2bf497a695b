-- A call met a server fault or a broken connection: its place is free, and it is set beside what its neighbours met.
-- Why atomic: whoever completes the row of faults closes the gate.
-- KEYS  1 pace hash   2 flying zset   3 faults set
-- ARGV  1 job:epoch   2 job id   3 when the call left, in ms   4 life of a row of faults in ms
-- Returns {jobs in a row that met a fault, calls in flight with it, times the gate was closed for faults,
--          1 when it was the probe of a gate closed for faults, 1 when it left before the gate was last closed}
local pace = redis.call('HMGET', KEYS[1], 'reason', 'probe', 'trips', 'closed_at')
local flying = redis.call('ZCARD', KEYS[2])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return { redis.call('SCARD', KEYS[3]), flying, tonumber(pace[3] or 0),
  pace[1] == 'faults' and pace[2] == ARGV[1] and 1 or 0, tonumber(ARGV[3]) <= tonumber(pace[4] or 0) and 1 or 0 }
