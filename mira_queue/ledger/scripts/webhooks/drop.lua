-- Drop a delivery: nothing receives it any more, because its endpoint was deleted.
-- Why atomic: a receiver without deliveries is removed with its last one.
-- Uses  receivers
-- KEYS  1 receivers zset   2 receiver's zset   3 delivery hash   4 recent deliveries of its project   5 of all
-- ARGV  1 receiver   2 id
-- Returns nothing
local receiver, id = unpack(ARGV)
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[2], id)
redis.call('ZREM', KEYS[4], id)
redis.call('ZREM', KEYS[5], id)
reschedule(KEYS[1], KEYS[2], receiver)
