-- Add a new batch, once: a request that creates it may be repeated, also while it runs.
-- Why atomic: a batch that no supervisor would find must never exist, nor two that the limits of a project allow only alone.
-- Uses  batch_usage, usage
-- KEYS  1 batch hash   2 zset of batches   3 set of open batches   4 usage of its project
-- ARGV  1 id   2 record   3 Unix time of its creation   4 its project ('' for none)   5 its lines   6 its maximum cost
--       7 and 8 limits of the project: open jobs, cost of the day (0: none)
-- Returns 1 | 0 (it exists) | 'open' | 'cost' (the limit that does not allow it)
local id, record, created_at, project, lines, max_cost_of_batch, max_open, max_cost = unpack(ARGV)
lines, max_cost_of_batch = tonumber(lines), tonumber(max_cost_of_batch)
if project ~= '' and redis.call('HEXISTS', KEYS[1], 'batch') == 0 then
  local limit = limit_reached(KEYS[4], tonumber(max_open), tonumber(max_cost), lines, max_cost_of_batch)
  if limit then
    return limit
  end
end
if redis.call('HSETNX', KEYS[1], 'batch', record) == 0 then
  return 0
end
redis.call('ZADD', KEYS[2], created_at, id)
redis.call('SADD', KEYS[3], id)
if project ~= '' then
  count_batch(KEYS[1], KEYS[4], lines, max_cost_of_batch, 0)
end
return 1
