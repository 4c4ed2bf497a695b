-- Make a delivery a dead one: there is no further attempt, unless its owner sends it again.
-- Why atomic: it is either due or dead, and listed as a dead one.
-- Uses  clock, deliveries, receivers
-- KEYS  1 receivers zset   2 receiver's zset   3 delivery hash   4 dead deliveries of the project
-- ARGV  1 receiver   2 id   3 attempts   4 result of the last one   5 TTL in ms   6 maximum number of dead deliveries
-- Returns 1 | 0 (it is settled already)
local receiver, id, attempts, result, ttl_ms, max_dead = unpack(ARGV)
if redis.call('ZREM', KEYS[2], id) == 0 then
  return 0
end
bury(KEYS[3], KEYS[4], id, attempts, result, server_ms(), ttl_ms, max_dead)
reschedule(KEYS[1], KEYS[2], receiver)
return 1
