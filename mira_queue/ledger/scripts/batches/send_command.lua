-- Send a command to a batch's supervisor. It replaces one that was not carried out yet. A pause or a cancel holds the
-- batch's jobs.
-- Why atomic: the supervisor that carries out a command finds its hold, and no hold is left without a command.
-- Uses  clock, holds
-- KEYS  1 batch hash   2 holds zset
-- ARGV  1 command   2 1 if it stops the batch, else 0   3 channel of holds
-- Returns 1 | 0 (there is no such batch)
local command, stops, channel = unpack(ARGV)
local batch = redis.call('HGET', KEYS[1], 'batch')
if not batch then
  return 0
end
redis.call('HSET', KEYS[1], 'command', command)
-- A batch that is still being checked has no jobs: see unhold.lua.
local group = cjson.decode(batch).group
if stops == '1' and type(group) == 'string' and group ~= '' then
  hold(KEYS[2], group, server_ms(), HOLD_TTL_MS, channel)
end
return 1
