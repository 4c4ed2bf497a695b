-- Release the permit of a call that ended in a server fault or a broken connection, and count faults of other jobs.
-- A fault counts until the service has answered a call that started after it. Answers to older calls show nothing.
-- A job whose fault is its own, while other jobs are answered, is sick: its faults do not count for other jobs.
-- Why atomic: the fault that completes the streak opens the circuit breaker.
-- Uses  call_times, clock, turns
-- KEYS  1 pace hash   2 in-flight zset   3 turns zset   4 faults zset   5 hash of call times
-- ARGV  1 now in ms ('' for the server's clock)   2 job:epoch   3 job id   4 when the call started in ms
--       5 channel of wake-ups, without the process   6 message of the server
--       7.. what the call adds to the call times: fields and amounts
-- Returns {jobs whose faults count (this one, too, if it is not sick), calls in flight with it, ms since faults first
--         opened the breaker (0 if they have not since the last response), 1 if it was the probe of a breaker that faults
--         had opened, 1 if it started before the breaker last opened, 1 if it has closed the breaker, 1 if the service has
--         answered a call that started after the job's earlier fault}
local given, member, job_id, started, channel, message = unpack(ARGV)
local now = server_ms(given)
local reason, probe, faults_since, opened_at, answered = unpack(redis.call('HMGET', KEYS[1],
  'reason', 'probe', 'faults_since', 'opened_at', 'answered'))
answered = tonumber(answered or 0)
local in_flight = redis.call('ZCARD', KEYS[2])
if redis.call('ZREM', KEYS[2], member) == 1 then
  add_call_times(KEYS[5], 7)
end

-- The score is the time of the job's first fault that no answer has followed; negative if the job is sick.
local score = tonumber(redis.call('ZSCORE', KEYS[4], job_id) or 0)
local first = math.abs(score)
local is_own = first > 0 and first < answered
local is_sick = is_own or score < 0
if first == 0 or is_own then
  -- A later fault must not replace an earlier one, or a job that fails often would never be found at fault.
  first = now
end
redis.call('ZADD', KEYS[4], is_sick and -first or first, job_id)
local settled = math.min(answered, now - FAULTS_TTL_MS)
redis.call('ZREMRANGEBYSCORE', KEYS[4], '(' .. -settled, '(' .. settled)
redis.call('PEXPIRE', KEYS[4], FAULTS_TTL_MS)
local jobs = redis.call('ZCOUNT', KEYS[4], answered, '+inf')

if redis.call('EXISTS', KEYS[1]) == 1 then
  -- Otherwise, it has expired, and would live forever.
  redis.call('HSET', KEYS[1], 'message', message)
end
local was_probe, by_faults = probe == member, reason == 'faults'
-- It probed whether the limit's wait is over, and it was not rate-limited; or only this job's own faults are left.
local closes = was_probe and (not by_faults or jobs == 0)
if closes then
  redis.call('HDEL', KEYS[1], 'probe', 'probe_until', 'open_until', 'reason', 'faults_since')
  wake(KEYS[3], channel, -1)
end
local lasted_ms = faults_since and math.max(0, now - faults_since) or 0
return { jobs, in_flight, lasted_ms, was_probe and by_faults and 1 or 0,
  tonumber(started) <= tonumber(opened_at or 0) and 1 or 0, closes and 1 or 0, is_own and 1 or 0 }
