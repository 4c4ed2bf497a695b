-- Confirm a permit whose call has not started for a while: its process was stopped, or is busy.
-- Why atomic: a call that must not start any more loses its permit, and does not count as one that may be billed.
-- Uses  clock, rejections, permits
-- KEYS  1 pace hash   2 in-flight zset   3 holds zset   4 rejections hash   5 job hash
-- ARGV  1 job id   2 epoch   3 channel of holds
-- Returns {'go'} | {'wait'} (the circuit breaker has opened since, or the permit has expired) | {'lost'} | {'held'}
--         | {'expired'} | {'rejected', error}, as pace/acquire.lua does
local id, epoch, holds_channel = unpack(ARGV)
local account = { in_flight = KEYS[2], holds = KEYS[3], holds_channel = holds_channel,
  rejections = read_rejections(KEYS[4]) }
return denied_since(account, KEYS[1], KEYS[5], epoch, id .. ':' .. epoch, server_ms()) or { 'go' }
