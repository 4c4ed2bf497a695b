-- Record that a delivery was made. It stays for as long as it is listed.
-- Why atomic: a receiver without deliveries is removed with its last one.
-- Uses  clock, receivers
-- KEYS  1 receivers zset   2 receiver's zset   3 delivery hash   4 recent deliveries of its project
-- ARGV  1 receiver   2 id   3 attempts   4 result of the last one   5 TTL in ms
-- Returns nothing
local receiver, id, attempts, result, ttl_ms = unpack(ARGV)
redis.call('ZREM', KEYS[2], id)
if not redis.call('ZSCORE', KEYS[4], id) then
  redis.call('DEL', KEYS[3])
elseif redis.call('EXISTS', KEYS[3]) == 1 then
  local now = server_ms()
  redis.call('HSET', KEYS[3], 'attempts', attempts, 'result', result, 'delivered_ms', now, 'attempted_ms', now)
  redis.call('HDEL', KEYS[3], 'due_ms', 'died_ms')
  redis.call('PEXPIRE', KEYS[3], ttl_ms)
end
reschedule(KEYS[1], KEYS[2], receiver)
