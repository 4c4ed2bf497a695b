-- Calls have come back, and not with a refusal: their places are free, and what they show is noted.
-- Why atomic: an answer ends a row of faults, and the probe's answer opens the gate for everybody at once.
-- KEYS  1 pace hash   2 flying zset   3 turns zset   4 faults set
-- ARGV  1 channel of wake-ups, without the process
--       2.. for each call: job:epoch, calls in flight with it, calls in the rate's window before it, tokens beyond the
--       estimate, calls that a header left ('' for none), ms for which the header holds
-- Returns 1 when the gate was opened, else 0
local opened = 0
for index = 2, #ARGV, 6 do
  local member = ARGV[index]
  if redis.call('ZREM', KEYS[2], member) == 1 then
    redis.call('HINCRBY', KEYS[1], 'accepted', 1)
    local pace = redis.call('HMGET', KEYS[1], 'peak_flying', 'peak_sent')
    redis.call('HSET', KEYS[1], 'peak_flying', math.max(tonumber(pace[1] or 0), ARGV[index + 1]),
      'peak_sent', math.max(tonumber(pace[2] or 0), ARGV[index + 2]))
    redis.call('PEXPIRE', KEYS[1], 604800000)
    if tonumber(ARGV[index + 3]) ~= 0 then
      redis.call('HINCRBY', KEYS[1], 'spent', ARGV[index + 3])
    end
  end
  if ARGV[index + 4] ~= '' then
    -- The header counted what had arrived; calls that are on their way may not have.
    local time = redis.call('TIME')
    redis.call('HSET', KEYS[1], 'room', math.max(0, ARGV[index + 4] - redis.call('ZCARD', KEYS[2])),
      'room_until', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[index + 5])
  end
  if redis.call('HGET', KEYS[1], 'probe') == member then
    redis.call('HDEL', KEYS[1], 'probe', 'probe_until', 'closed_until', 'reason', 'trips')
    opened = 1
  end
end
redis.call('DEL', KEYS[4])
if opened == 1 then
  for _, process in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    redis.call('PUBLISH', ARGV[1] .. process, '1')
  end
end
return opened
