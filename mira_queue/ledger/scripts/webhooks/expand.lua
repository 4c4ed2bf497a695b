-- Replace an event by its deliveries, one for each receiver. The first attempts are due immediately.
-- Why atomic: a gateway that crashes in between would lose deliveries, and two gateways would make them twice.
-- Uses  clock
-- KEYS  1 list of events   2 receivers zset; then for each delivery: delivery hash, receiver's zset
-- ARGV  1 the event; then for each delivery: id, receiver, target
-- Returns 1 | 0 (another gateway has done it)
local event = ARGV[1]
if redis.call('LREM', KEYS[1], 1, event) == 0 then
  return 0
end
local now = server_ms()
for number = 1, (#KEYS - 2) / 2 do
  local id, receiver, target = unpack(ARGV, 3 * number - 1, 3 * number + 1)
  local delivery, queue = unpack(KEYS, 2 * number + 1, 2 * number + 2)
  redis.call('HSET', delivery, 'event', event, 'receiver', receiver, 'target', target, 'attempts', 0, 'created_ms', now)
  redis.call('ZADD', queue, now, id)
  redis.call('ZADD', KEYS[2], 'LT', now, receiver)
end
return 1
