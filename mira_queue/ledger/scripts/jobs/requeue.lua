-- Requeue jobs whose message has arrived, and which have not started: they get new messages, and count from now.
-- Why atomic: with their old time, rescue would take them for jobs whose message was lost.
-- Uses  clock
-- KEYS  1 queued zset of their lane
-- ARGV  1.. job ids
-- Returns the ids of those that are still queued: they need a message
local now, queued = server_ms(), {}
for _, id in ipairs(ARGV) do
  if redis.call('ZSCORE', KEYS[1], id) then
    redis.call('ZADD', KEYS[1], now, id)
    queued[#queued + 1] = id
  end
end
return queued
