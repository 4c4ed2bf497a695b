-- Acknowledge a command of a batch: remove it, unless a newer one has replaced it.
-- Why atomic: a command that arrived between the comparison and the removal would be lost.
-- KEYS  1 batch hash
-- ARGV  1 the command that was carried out
-- Returns 1 | 0 (there is a newer command, or none)
local carried_out = ARGV[1]
if redis.call('HGET', KEYS[1], 'command') ~= carried_out then
  return 0
end
return redis.call('HDEL', KEYS[1], 'command')
