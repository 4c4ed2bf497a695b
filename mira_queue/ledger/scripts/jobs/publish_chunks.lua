-- Publish chunks of a streamed answer while its call is in flight, for clients that show them at once.
-- Why atomic: chunks of two attempts must not be mixed, and a worker that has lost its lease must not publish.
-- KEYS  1 job hash   2 list of chunks, which begins with the epoch of the attempt
-- ARGV  1 epoch   2 TTL in ms   3.. chunks
-- Returns 1 | 0 (the lease is lost)
local epoch, ttl_ms = ARGV[1], ARGV[2]
local state, held_epoch = unpack(redis.call('HMGET', KEYS[1], 'state', 'epoch'))
if state ~= 'running' or held_epoch ~= epoch then
  return 0
end
if redis.call('LINDEX', KEYS[2], 0) ~= epoch then
  redis.call('DEL', KEYS[2])
  redis.call('RPUSH', KEYS[2], epoch)
end
redis.call('RPUSH', KEYS[2], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[2], ttl_ms)
return 1
