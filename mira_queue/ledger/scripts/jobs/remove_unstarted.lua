-- Withdraw a job that has not begun: nothing of it is left, as if it had never been accepted.
-- Why atomic: a worker may claim it at this very moment; then it runs, and stays.
-- KEYS  1 job hash   2 request   3 waiting zset   4 idempotency key   5.. queued zsets of all lanes
-- ARGV  1 job id
-- Returns how many of its calls were not answered, and may have been billed (it is gone) | -1 (it runs, or has ended)
local job = redis.call('HMGET', KEYS[1], 'state', 'outcome', 'key', 'unanswered')
if not job[1] then
  return 0
end
if (job[1] ~= 'queued' and job[1] ~= 'waiting') or job[2] then
  return -1
end
redis.call('DEL', KEYS[1], KEYS[2])
if job[3] ~= '' then
  redis.call('DEL', KEYS[4])
end
redis.call('ZREM', KEYS[3], ARGV[1])
for lane = 5, #KEYS do
  redis.call('ZREM', KEYS[lane], ARGV[1])
end
return tonumber(job[4] or 0)
