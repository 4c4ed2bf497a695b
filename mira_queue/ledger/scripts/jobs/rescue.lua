-- Rescue a job whose lease has expired, because its worker crashed.
-- Why atomic: of any number of rescuers one gets the job, and only if its worker has not extended the lease.
-- Uses  clock
-- KEYS  1 job hash   2 leased zset   3 queued zset of the first lane
-- ARGV  1 job id   2 crashes that make it a poison job   3 lease in ms, for storing the outcome of a poison job
-- Returns {'queued'} | {'poison', epoch, attempts, crashes, unanswered, key, group} | {'nothing'}
local id, max_crashes, lease_ms = unpack(ARGV)
local now = server_ms()
local expires_ms = redis.call('ZSCORE', KEYS[2], id)
if not expires_ms or tonumber(expires_ms) > now then
  return { 'nothing' }
end
local state, calling, attempts, crashes, unanswered, key, group, outcome = unpack(redis.call('HMGET', KEYS[1],
  'state', 'calling', 'attempts', 'crashes', 'unanswered', 'key', 'group', 'outcome'))
if state ~= 'running' then
  redis.call('ZREM', KEYS[2], id)
  return { 'nothing' }
end
unanswered, crashes = tonumber(unanswered or 0), tonumber(crashes or 0)
if calling then
  unanswered = redis.call('HINCRBY', KEYS[1], 'unanswered', 1)
end
redis.call('HDEL', KEYS[1], 'token', 'calling')
-- Only during its call can a job have crashed its worker. A job that waited for a permit is innocent.
if calling and not outcome then
  crashes = redis.call('HINCRBY', KEYS[1], 'crashes', 1)
end
if crashes >= tonumber(max_crashes) and not outcome then
  -- A new epoch: if the old worker resumes, it stores nothing.
  local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
  redis.call('ZADD', KEYS[2], now + lease_ms, id)
  return { 'poison', epoch, tonumber(attempts or 0), crashes, unanswered, key, group }
end
redis.call('HSET', KEYS[1], 'state', 'queued')
redis.call('ZREM', KEYS[2], id)
redis.call('ZADD', KEYS[3], now, id)
return { 'queued' }
