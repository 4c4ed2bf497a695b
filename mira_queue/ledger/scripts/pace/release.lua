-- Calls have come back, and not with a refusal: their places are free, and what they show is noted.
-- Why atomic: an answer ends a row of faults, and the probe's answer opens the gate for everybody at once.
-- KEYS  1 pace hash   2 sent zset   3 flying zset   4 turns zset   5 faults set
-- ARGV  1 now in ms, '' for the server's clock   2 channel of wake-ups, without the process
--       3.. for each call: job:epoch, when it left in ms, calls in flight with it, calls in the rate's window before it,
--       tokens beyond the estimate, calls that a header left ('' for none), ms for which the header holds
-- Returns 1 when the gate was opened, else 0
-- A call that is out for so long was let in: refusals are quick.
local SETTLED_MS, LIFE_MS = 100, 604800000
-- How long calls take: a running mean over so many.
local CALLS_OF_MEAN, LONGEST_CALL_MS = 8, 600000
-- A server may say anything, and a count that has grown past what is exact would end all counting.
local MOST_TOKENS = 1000000000
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local opened = 0
local pace = redis.call('HMGET', KEYS[1], 'peak_in_flight', 'peak_sent', 'max_in_flight', 'sent', 'call_ms', 'at_ceiling', 'spent',
  'probe')
local peak_flying, peak_sent, flights = tonumber(pace[1] or 0), tonumber(pace[2] or 0), tonumber(pace[3] or 2)
local call_ms, at_ceiling, spent = tonumber(pace[5]), tonumber(pace[6] or 0), tonumber(pace[7] or 0)
-- What was in flight together for certain: those that had left before, and had not come back until now.
local young = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. (now - SETTLED_MS), '+inf', 'LIMIT', 0, 1)[1]
local unsettled = young and pace[4] - young or 0
local flying = redis.call('ZCARD', KEYS[3])
local landed = 0
for index = 3, #ARGV, 7 do
  local member = ARGV[index]
  if redis.call('ZREM', KEYS[3], member) == 1 then
    peak_flying = math.max(peak_flying, flying - unsettled)
    peak_sent = math.max(peak_sent, ARGV[index + 3])
    at_ceiling = at_ceiling + (tonumber(ARGV[index + 2]) >= flights and 1 or 0)
    local took_ms = math.min(now - ARGV[index + 1], LONGEST_CALL_MS)
    call_ms = math.floor((call_ms or took_ms) + (took_ms - (call_ms or took_ms)) / CALLS_OF_MEAN)
    spent = spent + math.max(-MOST_TOKENS, math.min(MOST_TOKENS, tonumber(ARGV[index + 4])))
    flying, landed = flying - 1, landed + 1
  end
  if ARGV[index + 5] ~= '' then
    -- The header counted what had arrived; calls that are on their way may not have.
    redis.call('HSET', KEYS[1], 'remaining', math.max(0, ARGV[index + 5] - flying), 'remaining_until', now + ARGV[index + 6])
    redis.call('PEXPIRE', KEYS[1], LIFE_MS)
  end
  if pace[8] == member then
    redis.call('HDEL', KEYS[1], 'probe', 'probe_until', 'open_until', 'reason', 'fault_openings')
    opened = 1
  end
end
if landed > 0 then
  redis.call('HSET', KEYS[1], 'peak_in_flight', peak_flying, 'peak_sent', peak_sent, 'call_ms', call_ms,
    'at_ceiling', at_ceiling, 'spent', string.format('%.0f', spent))
  redis.call('PEXPIRE', KEYS[1], LIFE_MS)
end
redis.call('DEL', KEYS[5])
if opened == 1 then
  for _, process in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    redis.call('PUBLISH', ARGV[2] .. process, '1')
  end
end
return opened
