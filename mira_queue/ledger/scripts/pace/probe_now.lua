-- Let the next call probe immediately: an owner says that the account's error or its limit no longer exists.
-- Why atomic: a call that is rejected at the same time counts as before or as after this.
-- Uses  clock, rejections, turns
-- KEYS  1 pace hash   2 rejections hash   3 turns zset
-- ARGV  1 channel of wake-ups, without the process   2 a circuit breaker that a limit has opened stays open if it closes
--       within this time in ms
-- Returns nothing
local channel, keep_ms = unpack(ARGV)
for _, rejection in pairs(read_rejections(KEYS[2]) or {}) do
  rejection.ends = 0
  write_rejection(KEYS[2], rejection)
end
local now, open_until, reason = server_ms(), unpack(redis.call('HMGET', KEYS[1], 'open_until', 'reason'))
local open_ms = tonumber(open_until or 0) - now
if open_ms > 0 and (reason == 'faults' or open_ms > tonumber(keep_ms)) then
  redis.call('HSET', KEYS[1], 'open_until', now)
end
wake(KEYS[3], channel, -1)
