-- Cancel a job: it gets no completion any more. A call in flight cannot be recalled; its answer is not stored.
-- Why atomic: either it has an outcome already, or it is cancelled, never both.
-- KEYS  1 job hash   2 request   3 leased zset   4 waiting zset   5 idempotency key   6 result
--       7 finished list   8.. queued zsets of all lanes
-- ARGV  1 job id   2 result record ('' when a backend elsewhere gets it)   3 life in ms
-- Returns {1, state before} (cancelled: by an earlier call, perhaps this one, repeated) | {0, state} | {0, 'missing'}
local job = redis.call('HMGET', KEYS[1], 'state', 'calling', 'key', 'group', 'outcome')
local state = job[1]
if not state then
  return { 0, 'missing' }
end
if state == 'cancelled' then
  return { 1, state }
end
if state == 'succeeded' or state == 'failed' or job[5] then
  return { 0, state }
end
local now = redis.call('TIME')
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'state', 'cancelled', 'finished_ms', now[1] * 1000 + math.floor(now[2] / 1000))
if job[2] then
  redis.call('HINCRBY', KEYS[1], 'unanswered', 1)
end
redis.call('HDEL', KEYS[1], 'token', 'calling', 'due_ms', 'reason')
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
for lane = 8, #KEYS do
  redis.call('ZREM', KEYS[lane], ARGV[1])
end
redis.call('DEL', KEYS[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if job[3] ~= '' then
  redis.call('PEXPIRE', KEYS[5], ARGV[3])
end
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[6], ARGV[2], 'PX', ARGV[3])
end
if job[4] ~= '' then
  redis.call('RPUSH', KEYS[7], ARGV[1])
  redis.call('PEXPIRE', KEYS[7], ARGV[3])
end
redis.call('PUBLISH', KEYS[6], ARGV[2])
return { 1, state }
