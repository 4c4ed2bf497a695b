-- Acknowledge a batch's command that has been carried out, unless there is a newer one.
-- Why atomic: a command that arrives between the check and the deletion would be lost.
-- KEYS  1 batch hash
-- ARGV  1 the command
-- Returns 1 | 0 (there is a newer command, or none)
local command = ARGV[1]
if redis.call('HGET', KEYS[1], 'wish') ~= command then
  return 0
end
return redis.call('HDEL', KEYS[1], 'wish')
