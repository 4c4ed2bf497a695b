-- Replace an event by its deliveries, one for each receiver. The first attempts are due immediately. If too many deliveries
-- wait for a receiver, another one is dead from the start: its owner can send it again.
-- Why atomic: a gateway that crashes in between would lose deliveries, and two gateways would make them twice.
-- Uses  clock, deliveries
-- KEYS  1 list of events   2 receivers zset   3 dead deliveries of the project   4 recent ones of the project   5 of all;
--       then for each delivery: delivery hash, receiver's zset
-- ARGV  1 the event   2 TTL in ms   3 maximum number of dead deliveries   4 maximum number that wait for a receiver
--       5 result of one more; then for each delivery: id, receiver, target
-- Returns false (another gateway has done it) | {ids of the deliveries that are dead}
local event, ttl_ms, max_dead, max_waiting, too_many = unpack(ARGV)
if redis.call('LREM', KEYS[1], 1, event) == 0 then
  return false
end
local now, dead = server_ms(), {}
for number = 1, (#KEYS - 5) / 2 do
  local id, receiver, target = unpack(ARGV, 3 * number + 3, 3 * number + 5)
  local delivery, queue = unpack(KEYS, 2 * number + 4, 2 * number + 5)
  redis.call('HSET', delivery, 'event', event, 'receiver', receiver, 'target', target, 'attempts', 0, 'created_ms', now)
  if redis.call('ZCARD', queue) < tonumber(max_waiting) then
    redis.call('ZADD', queue, now, id)
    redis.call('ZADD', KEYS[2], 'LT', now, receiver)
  else
    bury(delivery, KEYS[3], id, 0, too_many, now, ttl_ms, max_dead)
    dead[#dead + 1] = id
  end
  list_delivery(KEYS[4], id, now, ttl_ms)
  list_delivery(KEYS[5], id, now, ttl_ms)
end
return dead
