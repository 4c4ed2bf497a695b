-- A wish for a batch is done: it is no wish any more, unless there is a newer one by now.
-- Why atomic: one that comes between the look and the removal would be lost.
-- KEYS  1 batch hash
-- ARGV  1 the wish that is done
-- Returns 1 | 0 (there is a newer one, or none)
if redis.call('HGET', KEYS[1], 'wish') ~= ARGV[1] then
  return 0
end
return redis.call('HDEL', KEYS[1], 'wish')
