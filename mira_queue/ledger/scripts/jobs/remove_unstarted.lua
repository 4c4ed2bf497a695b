-- Remove a job that has not started, as if it had never been accepted.
-- Why atomic: if a worker claims it at this moment, it runs and stays.
-- Uses  read
-- KEYS  1 job hash   2 request   3 waiting zset   4 idempotency key   5.. queued zsets of all lanes
-- ARGV  1 job id
-- Returns how many of its calls may have been billed without an answer (it is removed) | -1 (it runs, or has finished)
local id = ARGV[1]
local job = read_hash(KEYS[1], 'state', 'outcome', 'key', 'unanswered')
if not job.state then
  return 0
end
if (job.state ~= 'queued' and job.state ~= 'waiting') or job.outcome then
  return -1
end
redis.call('DEL', KEYS[1], KEYS[2])
if job.key ~= '' then
  redis.call('DEL', KEYS[4])
end
redis.call('ZREM', KEYS[3], id)
for lane = 5, #KEYS do
  redis.call('ZREM', KEYS[lane], id)
end
return tonumber(job.unanswered or 0)
