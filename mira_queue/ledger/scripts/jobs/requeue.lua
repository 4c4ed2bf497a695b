-- Hand back jobs that a message brought and that were not begun: their messages are sent anew, and count from now.
-- Why atomic: with their old time they would look, to a rescuer, like jobs whose message was lost.
-- KEYS  1 queued zset of their lane
-- ARGV  1.. job ids
-- Returns the ids of those that are still queued there: they need a message
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local queued = {}
for _, id in ipairs(ARGV) do
  if redis.call('ZSCORE', KEYS[1], id) then
    redis.call('ZADD', KEYS[1], now_ms, id)
    queued[#queued + 1] = id
  end
end
return queued
