-- Retry a failed job on its owner's command. Attempts and crashes restart at zero; unanswered calls stay counted.
-- Why atomic: the stored error is deleted and the job is queued, or neither.
-- Uses  clock
-- KEYS  1 job hash   2 request   3 queued zset   4 idempotency key   5 result
-- ARGV  1 job id   2 token of this call (a repeated call with the same token gets the same response)
-- Returns {1, 'queued'} | {0, state} (only a failed job can be retried) | {0, 'missing'}
local id, token = unpack(ARGV)
local state, key, held_token = unpack(redis.call('HMGET', KEYS[1], 'state', 'key', 'token'))
if not state then
  return { 0, 'missing' }
end
if state == 'queued' and held_token == token then
  return { 1, state }
end
if state ~= 'failed' then
  return { 0, state }
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'token', token)
redis.call('HDEL', KEYS[1], 'attempts', 'crashes', 'finished_ms', 'reason')
redis.call('PERSIST', KEYS[1])
redis.call('PERSIST', KEYS[2])
if key ~= '' then
  redis.call('PERSIST', KEYS[4])
end
redis.call('DEL', KEYS[5])
redis.call('ZADD', KEYS[3], server_ms(), id)
return { 1, 'queued' }
