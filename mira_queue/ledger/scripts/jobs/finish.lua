-- Finish a job: its outcome, once, and the end of its ledger entry.
-- Why atomic: one outcome for each job, and nobody sees it finished without its outcome.
-- KEYS  1 job hash   2 request   3 leased zset   4 idempotency key   5 result   6 finished list
-- ARGV  1 job id   2 epoch   3 succeeded | failed   4 result record ('' when a backend elsewhere has it)   5 life in ms
--       6 idempotency key's name   7 group   8 attempts   9 unanswered calls   10 error code ('' for none)
-- Returns 1 | 0 (the lease was lost: nothing was stored)
local job = redis.call('HMGET', KEYS[1], 'state', 'epoch')
if job[2] ~= ARGV[2] then
  return 0
end
if job[1] ~= 'running' then
  -- The same call again, by a client whose answer was lost.
  return job[1] == ARGV[3] and 1 or 0
end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'finished_ms', now[1] * 1000 + math.floor(now[2] / 1000),
  'attempts', ARGV[8], 'unanswered', ARGV[9], 'reason', ARGV[10])
redis.call('HDEL', KEYS[1], 'token', 'calling', 'outcome')
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if ARGV[3] == 'succeeded' then
  redis.call('DEL', KEYS[2])
else
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
if ARGV[6] ~= '' then
  redis.call('PEXPIRE', KEYS[4], ARGV[5])
end
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[5], ARGV[4], 'PX', ARGV[5])
end
if ARGV[7] ~= '' then
  redis.call('RPUSH', KEYS[6], ARGV[1])
  redis.call('PEXPIRE', KEYS[6], ARGV[5])
end
redis.call('PUBLISH', KEYS[5], ARGV[4])
return 1
