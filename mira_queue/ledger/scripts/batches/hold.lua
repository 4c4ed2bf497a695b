-- Hold a group of jobs: none of them starts a call until the hold is removed or expires.
-- Why atomic: a worker that hears of it finds it.
-- Uses  clock, holds
-- KEYS  1 holds zset
-- ARGV  1 group   2 channel of holds
-- Returns nothing
local group, channel = unpack(ARGV)
hold(KEYS[1], group, server_ms(), HOLD_TTL_MS, channel)
