-- Read the ledger's clock, as every worker does often: then a large step between two reads is a jump.
-- Why atomic: of several workers, one reports a jump.
-- Uses  clock
-- KEYS  none, apart from the clock
-- ARGV  1 1 if this process has just started, else 0
-- Returns ms by which the server's clock has jumped since the last check by any worker
server_ms()
local jump_ms = tonumber(redis.call('HGET', CLOCK, 'jump_ms') or 0)
redis.call('HDEL', CLOCK, 'jump_ms')
if ARGV[1] == '1' and jump_ms > 0 then
  -- No worker ran in that time: it has passed, and counts.
  redis.call('HINCRBY', CLOCK, 'offset_ms', jump_ms)
  return 0
end
return jump_ms
