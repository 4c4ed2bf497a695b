-- Remove a job that has not started, as if it had never been accepted.
-- Why atomic: if a worker claims it at this moment, it runs and stays.
-- KEYS  1 job hash   2 request   3 waiting zset   4 idempotency key   5.. queued zsets of all lanes
-- ARGV  1 job id
-- Returns how many of its calls may have been billed without an answer (it is removed) | -1 (it runs, or has finished)
local id = ARGV[1]
local state, outcome, key, unanswered = unpack(redis.call('HMGET', KEYS[1], 'state', 'outcome', 'key', 'unanswered'))
if not state then
  return 0
end
if (state ~= 'queued' and state ~= 'waiting') or outcome then
  return -1
end
redis.call('DEL', KEYS[1], KEYS[2])
if key ~= '' then
  redis.call('DEL', KEYS[4])
end
redis.call('ZREM', KEYS[3], id)
for lane = 5, #KEYS do
  redis.call('ZREM', KEYS[lane], id)
end
return tonumber(unanswered or 0)
