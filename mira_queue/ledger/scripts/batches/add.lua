-- Add a new batch, once: a request that creates it may be repeated, also while it runs.
-- Why atomic: a batch that no supervisor would find must never exist.
-- KEYS  1 batch hash   2 zset of batches   3 set of open batches
-- ARGV  1 id   2 record   3 Unix time of its creation
-- Returns 1 | 0 (it exists)
local id, record, created_at = unpack(ARGV)
if redis.call('HSETNX', KEYS[1], 'batch', record) == 0 then
  return 0
end
redis.call('ZADD', KEYS[2], created_at, id)
redis.call('SADD', KEYS[3], id)
return 1
