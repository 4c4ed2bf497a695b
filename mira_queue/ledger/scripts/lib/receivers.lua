-- Receivers of webhooks. Each has a queue of its own, so that a slow one delays no other. The receivers' zset says when
-- the next delivery of each is due.

-- Write when the receiver's next delivery is due, or remove a receiver without deliveries.
local function reschedule(receivers, queue, receiver)
  local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', receivers, first[2], receiver)
  else
    redis.call('ZREM', receivers, receiver)
  end
end
