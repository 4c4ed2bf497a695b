-- Deliveries of webhooks that are settled: they stay listed for a time.

-- Add a delivery to the dead ones of its project. The oldest make room. It must have no place in a receiver's queue.
local function bury(delivery, dead, id, attempts, result, now, ttl_ms, max_dead)
  redis.call('HSET', delivery, 'attempts', attempts, 'result', result, 'died_ms', now, 'attempted_ms', now)
  redis.call('HDEL', delivery, 'due_ms')
  redis.call('PEXPIRE', delivery, ttl_ms)
  redis.call('ZADD', dead, now, id)
  redis.call('ZREMRANGEBYSCORE', dead, '-inf', now - ttl_ms)
  redis.call('ZREMRANGEBYRANK', dead, 0, -max_dead - 1)
  redis.call('PEXPIRE', dead, ttl_ms)
end

-- List a new delivery. The oldest make room.
local function list_delivery(recent, id, now, ttl_ms)
  redis.call('ZADD', recent, now, id)
  redis.call('ZREMRANGEBYRANK', recent, 0, -MAX_RECENT_DELIVERIES - 1)
  redis.call('PEXPIRE', recent, ttl_ms)
end
