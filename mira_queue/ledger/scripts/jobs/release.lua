-- Release a claimed job: it returns to the queue intact, because its worker stops. No attempt is charged, and a call
-- that is still in flight is counted as perhaps billed.
-- Why atomic: a job that is neither leased nor queued would never continue.
-- Uses  clock
-- KEYS  1 job hash   2 leased zset   3 queued zset of the first lane
-- ARGV  1 job id   2 epoch
-- Returns 1 | 0 (the lease is lost)
local id, epoch = unpack(ARGV)
local state, held_epoch, calling = unpack(redis.call('HMGET', KEYS[1], 'state', 'epoch', 'calling'))
if held_epoch ~= epoch then
  return 0
end
if state ~= 'running' then
  return state == 'queued' and 1 or 0
end
redis.call('HSET', KEYS[1], 'state', 'queued')
if calling then
  redis.call('HINCRBY', KEYS[1], 'unanswered', 1)
end
redis.call('HDEL', KEYS[1], 'token', 'calling')
redis.call('ZREM', KEYS[2], id)
redis.call('ZADD', KEYS[3], server_ms(), id)
return 1
