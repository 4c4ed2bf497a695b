-- Forget a batch: it was not submitted after all.
-- Why atomic: a batch that is gone must not count for the limits of its project.
-- Uses  batch_usage
-- KEYS  1 batch hash   2 zset of batches   3 set of open batches   4 usage of its project
-- ARGV  1 id   2 its project ('' for none)
-- Returns nothing
if ARGV[2] ~= '' and redis.call('HEXISTS', KEYS[1], 'open_lines') == 1 then
  count_batch(KEYS[1], KEYS[4], 0, 0, 0)
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
