-- Open a batch that has ended, because a retry is commanded. Its lines may run again, so it expires no more.
-- Why atomic: if the supervisor has carried out the retry meanwhile, the batch has ended again, or is open.
-- KEYS  1 batch hash   2 set of open batches
-- ARGV  1 id   2 the command that the caller has seen   3 the batch that it has seen   4 the batch, opened
--       5 1 if a supervisor has to run it, else 0
-- Returns 1 | 0 (the command was carried out, or the batch has changed)
local id, command, seen, opened, is_open = unpack(ARGV)
if redis.call('HGET', KEYS[1], 'command') ~= command or redis.call('HGET', KEYS[1], 'batch') ~= seen then
  return 0
end
redis.call('HSET', KEYS[1], 'batch', opened)
redis.call('PERSIST', KEYS[1])
if is_open == '1' then
  redis.call('SADD', KEYS[2], id)
end
return 1
