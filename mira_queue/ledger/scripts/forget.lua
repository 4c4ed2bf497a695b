-- Forget a finished job: its outcome has been written elsewhere for good.
-- Why atomic: an open job must not be dropped.
-- KEYS  1 job hash   2 request   3 idempotency key   4 result
-- Returns 1 | 0 (the job is open)
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'queued' or state == 'running' or state == 'waiting' then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
return 1
