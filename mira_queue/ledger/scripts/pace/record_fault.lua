-- Release the permit of a call that ended in a server fault or a broken connection, and count consecutive faults.
-- Why atomic: the fault that completes the streak opens the circuit breaker.
-- Uses  clock, turns
-- KEYS  1 pace hash   2 in-flight zset   3 turns zset   4 faults set
-- ARGV  1 now in ms ('' for the server's clock)   2 job:epoch   3 job id   4 when the call started in ms
--       5 channel of wake-ups, without the process
-- Returns {jobs with a fault since the last response, calls in flight with it, ms since faults first opened the breaker
--         (0 if they have not since the last response), 1 if it was the probe of a breaker that faults had opened, 1 if
--         it started before the breaker last opened, 1 if it has closed the breaker}
local now, member, job_id, started, channel = unpack(ARGV)
local reason, probe, faults_since, opened_at = unpack(redis.call('HMGET', KEYS[1],
  'reason', 'probe', 'faults_since', 'opened_at'))
local in_flight = redis.call('ZCARD', KEYS[2])
redis.call('ZREM', KEYS[2], member)
redis.call('SADD', KEYS[4], job_id)
redis.call('PEXPIRE', KEYS[4], FAULTS_TTL_MS)
local was_probe, by_faults = probe == member, reason == 'faults'
local closes = was_probe and not by_faults
if closes then
  -- It probed whether the limit's wait is over, and it was not rate-limited.
  redis.call('HDEL', KEYS[1], 'probe', 'probe_until', 'open_until', 'reason')
  wake(KEYS[3], channel, -1)
end
local lasted_ms = faults_since and math.max(0, server_ms(now) - faults_since) or 0
return { redis.call('SCARD', KEYS[4]), in_flight, lasted_ms, was_probe and by_faults and 1 or 0,
  tonumber(started) <= tonumber(opened_at or 0) and 1 or 0, closes and 1 or 0 }
