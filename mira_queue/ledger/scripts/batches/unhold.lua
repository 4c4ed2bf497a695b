-- Let the jobs of a batch start again, unless a command has arrived that was not carried out yet.
-- Why atomic: a pause that arrives between the two steps would not hold the batch, and its supervisor would send lines.
-- Uses  holds
-- KEYS  1 batch hash   2 holds zset
-- ARGV  1 group of the batch's jobs   2 account of the batch
-- Returns 1 | 0 (there is a command: a hold stays)
if redis.call('HEXISTS', KEYS[1], 'command') == 1 then
  return 0
end
local group, account = unpack(ARGV)
redis.call('ZREM', KEYS[2], group, rejected_name(group, account, 'account'))
return 1
