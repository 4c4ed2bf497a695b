-- Release permits of calls that were not rate-limited, and record what these calls show.
-- Why atomic: a response settles the faults before its call started, and the probe's response closes the circuit breaker for all.
-- Uses  call_times, clock, rejections, turns
-- KEYS  1 pace hash   2 sent zset   3 in-flight zset   4 turns zset   5 rejections hash   6 hash of call times
-- ARGV  1 now in ms ('' for the server's clock)   2 channel of wake-ups, without the process
--       3 number of calls   4.. for each call: job:epoch, when it started in ms, calls in flight with it, calls in the rate limit's window
--       before it, tokens beyond the estimate, calls that a header left ('' for none), ms for which the header holds;
--       then what the calls add to the call times: fields and amounts
-- Returns 1 if this closed the circuit breaker or ended a rejection, else 0
local now, channel = server_ms(ARGV[1]), ARGV[2]
-- A call that has been in flight for this long was accepted: 429s come quickly.
local SETTLED_MS = 100
-- The duration of a call is a running mean over this many calls.
local CALLS_OF_MEAN, MAX_CALL_MS = 8, 600000
-- A server may send any number, and a total above what a double can hold exactly would end all counting.
local MAX_TOKENS = 1000000000

local peak_in_flight, peak_sent, max_in_flight, sent, call_ms, at_ceiling, spent, probe, answered = unpack(redis.call('HMGET',
  KEYS[1], 'peak_in_flight', 'peak_sent', 'max_in_flight', 'sent', 'call_ms', 'at_ceiling', 'spent', 'probe', 'answered'))
peak_in_flight, peak_sent = tonumber(peak_in_flight or 0), tonumber(peak_sent or 0)
max_in_flight = tonumber(max_in_flight or 2)
-- Calls that were certainly in flight together: those that started SETTLED_MS ago and had not returned until now.
local young = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. (now - SETTLED_MS), '+inf', 'LIMIT', 0, 1)[1]
local unsettled = young and (sent or 0) - young or 0
local in_flight = redis.call('ZCARD', KEYS[3])
local released, is_closed, rejections = 0, false, read_rejections(KEYS[5])
local times = 4 + 7 * ARGV[3]
for at = 4, times - 1, 7 do
  local member, started, alongside, before, tokens, remaining, remaining_ms = unpack(ARGV, at, at + 6)
  answered = math.max(answered or 0, started)
  if redis.call('ZREM', KEYS[3], member) == 1 then
    peak_in_flight = math.max(peak_in_flight, in_flight - unsettled)
    peak_sent = math.max(peak_sent, before)
    at_ceiling = (at_ceiling or 0) + (tonumber(alongside) >= max_in_flight and 1 or 0)
    local took_ms = math.min(now - started, MAX_CALL_MS)
    call_ms = math.floor((call_ms or took_ms) + (took_ms - (call_ms or took_ms)) / CALLS_OF_MEAN)
    spent = (spent or 0) + math.max(-MAX_TOKENS, math.min(MAX_TOKENS, tokens))
    in_flight, released = in_flight - 1, released + 1
  end
  if remaining ~= '' then
    -- The header counts calls that have arrived. Calls in flight may not have.
    redis.call('HSET', KEYS[1], 'remaining', math.max(0, remaining - in_flight), 'remaining_until', now + remaining_ms)
  end
  if probe == member then
    redis.call('HDEL', KEYS[1], 'probe', 'probe_until', 'open_until', 'reason', 'faults_since')
    is_closed = true
  end
  for field, rejection in pairs(rejections or {}) do
    if rejection.probe == member then
      redis.call('HDEL', KEYS[5], field)
      is_closed = true
    end
  end
end
if released > 0 then
  redis.call('HSET', KEYS[1], 'peak_in_flight', peak_in_flight, 'peak_sent', peak_sent, 'call_ms', call_ms,
    'at_ceiling', at_ceiling, 'spent', string.format('%.0f', spent))
  -- Not again if this call is repeated.
  add_call_times(KEYS[6], times)
end
if answered then
  -- When the latest of the answered calls started.
  redis.call('HSET', KEYS[1], 'answered', answered)
end
redis.call('PEXPIRE', KEYS[1], ACCOUNT_TTL_MS)
if is_closed then
  wake(KEYS[4], channel, -1)
end
return is_closed and 1 or 0
