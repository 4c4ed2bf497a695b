-- Claim due deliveries of one receiver. An attempt that is not settled before its lease ends is claimed again.
-- Why atomic: of several gateways, one makes the attempt.
-- Uses  clock, receivers
-- KEYS  1 receivers zset   2 receiver's zset   3 receiver's pause
-- ARGV  1 receiver   2 maximum number   3 lease in ms
-- Returns ids of deliveries
local receiver, max_count, lease_ms = unpack(ARGV)
local now = server_ms()
local pause_ms = redis.call('PTTL', KEYS[3])
if pause_ms > 0 then
  redis.call('ZADD', KEYS[1], now + pause_ms, receiver)
  return {}
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, max_count)
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[2], now + lease_ms, id)
end
reschedule(KEYS[1], KEYS[2], receiver)
return ids
