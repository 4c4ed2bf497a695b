-- Permits that were granted, and whose calls have not started, or bring no response.
-- Uses  denials

-- Release a permit. Return true if the call was the probe: then the next call becomes the probe.
local function abandon(pace, in_flight, member)
  redis.call('ZREM', in_flight, member)
  if redis.call('HGET', pace, 'probe') ~= member then
    return false
  end
  redis.call('HSET', pace, 'probe', 'needed', 'probe_until', 0)
  return true
end

-- Return nothing if a call that was granted a permit may still start. Otherwise, return a verdict as `denied` does: it
-- loses the permit, and does not count as a call that may be billed.
local function denied_since(account, pace, job, epoch, member, now)
  local verdict, rejection = denied(account, job, epoch, member, now)
  local probe = redis.call('HGET', pace, 'probe')
  local breaker_opened = probe and probe ~= member
  -- If a rejection is due for a check, a call that requests its permit now checks it.
  if not verdict and not rejection and not breaker_opened and redis.call('ZSCORE', account.in_flight, member) then
    return
  end
  abandon(pace, account.in_flight, member)
  if redis.call('HGET', job, 'epoch') == epoch then
    redis.call('HDEL', job, 'calling')
  end
  return verdict or { 'wait' }
end
