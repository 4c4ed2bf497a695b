-- Holds: groups of jobs that must not start, because their batch is paused, cancelled, or out of its budget. They stay in
-- the queue. The zset has the time at which each hold expires.

local function is_held(holds, group, now)
  local expires_ms = redis.call('ZSCORE', holds, group)
  return expires_ms and tonumber(expires_ms) > now
end

-- Hold a group, and tell all workers: their jobs that wait for a permit return to the queue. A longer hold stays.
local function hold(holds, group, now, hold_ms, channel)
  redis.call('ZREMRANGEBYSCORE', holds, '-inf', now)
  redis.call('ZADD', holds, 'GT', now + hold_ms, group)
  redis.call('PEXPIRE', holds, HOLD_TTL_MS)
  redis.call('PUBLISH', channel, group)
end
