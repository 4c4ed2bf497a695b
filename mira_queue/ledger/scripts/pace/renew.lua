-- Renew the permits of calls that are in flight. The permits of a process that has crashed expire.
-- Why atomic: a call that has been released in the meantime must not take its slot again.
-- Uses  clock
-- KEYS  1 in-flight zset
-- ARGV  1 lease of a call in ms   2.. job:epoch of each call
-- Returns nothing
local lease_end = server_ms() + ARGV[1]
for index = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'XX', lease_end, ARGV[index])
end
