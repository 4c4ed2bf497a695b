-- Cancel a job: it gets no completion. A call in flight cannot be recalled, and its response is not stored.
-- Why atomic: a job either has its outcome already, or it is cancelled, never both.
-- Uses  clock
-- KEYS  1 job hash   2 request   3 leased zset   4 waiting zset   5 idempotency key   6 result
--       7 finished list   8.. queued zsets of all lanes
-- ARGV  1 job id   2 result record ('' if another result backend gets it)   3 TTL in ms
-- Returns {1, state before} (cancelled, by this call or an earlier one) | {0, state} | {0, 'missing'}
local id, record, ttl_ms = unpack(ARGV)
local state, calling, key, group, outcome = unpack(redis.call('HMGET', KEYS[1],
  'state', 'calling', 'key', 'group', 'outcome'))
if not state then
  return { 0, 'missing' }
end
if state == 'cancelled' then
  return { 1, state }
end
if state == 'succeeded' or state == 'failed' or outcome then
  return { 0, state }
end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'state', 'cancelled', 'finished_ms', server_ms())
if calling then
  redis.call('HINCRBY', KEYS[1], 'unanswered', 1)
end
redis.call('HDEL', KEYS[1], 'token', 'calling', 'due_ms', 'reason')
redis.call('ZREM', KEYS[3], id)
redis.call('ZREM', KEYS[4], id)
for lane = 8, #KEYS do
  redis.call('ZREM', KEYS[lane], id)
end
redis.call('DEL', KEYS[2])
redis.call('PEXPIRE', KEYS[1], ttl_ms)
if key ~= '' then
  redis.call('PEXPIRE', KEYS[5], ttl_ms)
end
if record ~= '' then
  redis.call('SET', KEYS[6], record, 'PX', ttl_ms)
end
if group ~= '' then
  redis.call('RPUSH', KEYS[7], id)
  redis.call('PEXPIRE', KEYS[7], ttl_ms)
end
redis.call('PUBLISH', KEYS[6], record)
return { 1, state }
