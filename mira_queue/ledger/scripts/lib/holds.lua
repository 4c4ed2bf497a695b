-- Holds: jobs that must not start. A group is held because its batch is paused, cancelled, or out of its budget. Its jobs
-- of one account are held because that was rejected: jobs that another account adopted may start. Held jobs stay in the
-- queue. The zset has the time at which each hold expires.

-- Return the name of the hold of a batch that pauses at a rejection (lib/rejections.lua): of all its jobs of the account,
-- or of those with the model.
local function rejected_name(group, account, field)
  return group .. ' ' .. account .. (field == 'account' and '' or ' ' .. field)
end

local function has_hold(holds, name, now)
  local expires_ms = redis.call('ZSCORE', holds, name)
  return expires_ms and tonumber(expires_ms) > now
end

-- Return whether the jobs of this group and account must not start.
local function is_held(holds, group, account, now)
  return has_hold(holds, group, now) or has_hold(holds, rejected_name(group, account, 'account'), now)
end

-- Add a hold, and tell all workers: their jobs that wait for a permit return to the queue. A longer hold stays.
local function hold(holds, name, now, hold_ms, channel)
  redis.call('ZREMRANGEBYSCORE', holds, '-inf', now)
  redis.call('ZADD', holds, 'GT', now + hold_ms, name)
  redis.call('PEXPIRE', holds, HOLD_TTL_MS)
  redis.call('PUBLISH', channel, name)
end
