-- Send a dead delivery again: its attempts begin again, with one that is due immediately.
-- Why atomic: it is either due or dead.
-- Uses  clock, receivers
-- KEYS  1 receivers zset   2 receiver's zset   3 delivery hash   4 dead deliveries of the project
-- ARGV  1 receiver   2 id
-- Returns 1 | 0 (it is not dead, or it has expired)
local receiver, id = unpack(ARGV)
if redis.call('HDEL', KEYS[3], 'died_ms') == 0 then
  return 0
end
redis.call('HSET', KEYS[3], 'attempts', 0)
redis.call('PERSIST', KEYS[3])
redis.call('ZREM', KEYS[4], id)
redis.call('ZADD', KEYS[2], server_ms(), id)
reschedule(KEYS[1], KEYS[2], receiver)
return 1
