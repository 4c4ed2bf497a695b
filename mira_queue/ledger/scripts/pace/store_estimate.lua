-- Store the estimate of the account's limits, if it follows from the newest one.
-- Why atomic: two processes that learn from the same calls must not overwrite each other.
-- Uses  clock
-- KEYS  1 pace hash   2 list of changes of the learned limits
-- ARGV  1 version that it follows from   2 estimate   3 calls ('' for no limit)   4 their window in ms
--       5 calls in flight   6 rate-limited calls in the window that the API does not count   7 until when, in ms
--       8 the learned limits, as an entry of the list without its time
-- Returns the new version, or 0. A first version begins with the time, so that none repeats after the key has expired.
local version, estimate, rate, window_ms, max_in_flight, uncounted, uncounted_until, limits = unpack(ARGV)
local stored = redis.call('HGET', KEYS[1], 'version')
if (stored or '0') ~= version then
  return 0
end
local next_version = stored and stored + 1 or redis.call('TIME')[1] * 1000
redis.call('HSET', KEYS[1], 'version', next_version, 'estimate', estimate, 'max_in_flight', max_in_flight,
  'at_ceiling', 0, 'peak_in_flight', 0, 'peak_sent', 0)
redis.call('HINCRBY', KEYS[1], 'estimate_changes', 1)
if rate == '' then
  redis.call('HDEL', KEYS[1], 'rate', 'window_ms', 'uncounted', 'uncounted_until')
else
  redis.call('HSET', KEYS[1], 'rate', rate, 'window_ms', window_ms, 'uncounted', uncounted, 'uncounted_until',
    uncounted_until)
end
redis.call('PEXPIRE', KEYS[1], ACCOUNT_TTL_MS)
local last = redis.call('LINDEX', KEYS[2], -1)
if not last or string.match(last, '^%d+ (.*)$') ~= limits then
  redis.call('RPUSH', KEYS[2], string.format('%.0f %s', server_ms(), limits))
  redis.call('LTRIM', KEYS[2], -MAX_LIMIT_CHANGES, -1)
  redis.call('PEXPIRE', KEYS[2], ACCOUNT_TTL_MS)
end
return next_version
