-- Finish a job: store its outcome, once, and close its ledger entry.
-- Why atomic: each job has one outcome, and no client sees a finished job without its outcome.
-- Uses  clock
-- KEYS  1 job hash   2 request   3 leased zset   4 idempotency key   5 result   6 finished list
-- ARGV  1 job id   2 epoch   3 succeeded | failed   4 result record ('' if another result backend has it)   5 TTL in ms
--       6 name of the idempotency key   7 group   8 attempts   9 unanswered calls   10 error code ('' for none)
-- Returns 1 | 0 (the lease is lost: nothing was stored)
local id, epoch, end_state, record, ttl_ms, name, group, attempts, unanswered, code = unpack(ARGV)
local state, held_epoch = unpack(redis.call('HMGET', KEYS[1], 'state', 'epoch'))
if held_epoch ~= epoch then
  return 0
end
if state ~= 'running' then
  -- The same call, repeated by a client that lost the response.
  return state == end_state and 1 or 0
end
redis.call('HSET', KEYS[1], 'state', end_state, 'finished_ms', server_ms(), 'attempts', attempts,
  'unanswered', unanswered, 'reason', code)
redis.call('HDEL', KEYS[1], 'token', 'calling', 'outcome')
redis.call('ZREM', KEYS[3], id)
redis.call('PEXPIRE', KEYS[1], ttl_ms)
if end_state == 'succeeded' then
  redis.call('DEL', KEYS[2])
else
  redis.call('PEXPIRE', KEYS[2], ttl_ms)
end
if name ~= '' then
  redis.call('PEXPIRE', KEYS[4], ttl_ms)
end
if record ~= '' then
  redis.call('SET', KEYS[5], record, 'PX', ttl_ms)
end
if group ~= '' then
  redis.call('RPUSH', KEYS[6], id)
  redis.call('PEXPIRE', KEYS[6], ttl_ms)
end
redis.call('PUBLISH', KEYS[5], record)
return 1
