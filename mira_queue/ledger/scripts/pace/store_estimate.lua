-- Write down what is now believed of the account's limits, if nobody has written since it was read.
-- Why atomic: two processes that learn from the same calls must not undo each other.
-- KEYS  1 pace hash
-- ARGV  1 version that was read   2 belief   3 calls, '' for no limit   4 their window in ms   5 calls in flight
-- Returns the new version, or 0. Versions begin with the time, so that none comes again when the key was away.
local version = redis.call('HGET', KEYS[1], 'version')
if (version or '0') ~= ARGV[1] then
  return 0
end
version = version and version + 1 or redis.call('TIME')[1] * 1000
redis.call('HSET', KEYS[1], 'version', version, 'estimate', ARGV[2], 'max_in_flight', ARGV[5], 'at_ceiling', 0, 'peak_in_flight', 0, 'peak_sent', 0)
redis.call('HINCRBY', KEYS[1], 'estimate_changes', 1)
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], 'rate', 'window_ms')
else
  redis.call('HSET', KEYS[1], 'rate', ARGV[3], 'window_ms', ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], 604800000)
return version
