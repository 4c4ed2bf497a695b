-- Send a command to a batch's supervisor. It replaces the one that the caller has seen. A pause or a cancel holds the
-- batch's jobs.
-- Why atomic: no command is lost that arrives meanwhile, the supervisor that carries out a command finds its hold, and no
-- hold is left without a command.
-- Uses  clock, holds
-- KEYS  1 batch hash   2 holds zset
-- ARGV  1 command   2 1 if it stops the batch, else 0   3 channel of holds   4 the command that it replaces ('' for none)
-- Returns 1 | 0 (there is no such batch) | -1 (there is another command, or none)
local command, stops, channel, seen = unpack(ARGV)
local batch = redis.call('HGET', KEYS[1], 'batch')
if not batch then
  return 0
end
if (redis.call('HGET', KEYS[1], 'command') or '') ~= seen then
  return -1
end
redis.call('HSET', KEYS[1], 'command', command)
-- A batch that is still being checked has no jobs: see unhold.lua.
local group = cjson.decode(batch).group
if stops == '1' and type(group) == 'string' and group ~= '' then
  hold(KEYS[2], group, server_ms(), HOLD_TTL_MS, channel)
end
return 1
