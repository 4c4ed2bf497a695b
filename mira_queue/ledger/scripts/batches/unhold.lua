-- Let the jobs of a batch start again, unless a command has arrived that was not carried out yet.
-- Why atomic: a pause that arrives between the two steps would not hold the batch, and its supervisor would send lines.
-- KEYS  1 batch hash   2 holds zset
-- ARGV  1 group of the batch's jobs
-- Returns 1 | 0 (there is a command: a hold stays)
if redis.call('HEXISTS', KEYS[1], 'command') == 1 then
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
